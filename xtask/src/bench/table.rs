//! The Markdown table: a row for each figure, a column for each model.

use serde_json::Value;

use super::Column;
use super::server::{Idle, STREAMS};

pub(super) fn markdown(columns: &[Column]) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let names = columns.iter().map(|column| column.recipe.clone());
    rows.push([String::new()].into_iter().chain(names).collect());
    rows.push(vec!["---".to_string(); columns.len() + 1]);
    let mut row = |name: String, cell: &dyn Fn(&Column) -> Option<String>| {
        let cells: Vec<Option<String>> = columns.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let shown = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_string()));
            rows.push([name].into_iter().chain(shown).collect());
        }
    };
    let first = columns.iter().find_map(|column| column.engine.as_ref());
    row("file".into(), &|c| megabytes(number(c, "/file_bytes")));
    row("load, s".into(), &|c| number(c, "/load_s").map(|n| format!("{n:.2}")));
    let tokens = |path: &str| first.and_then(|f| f.pointer(path)).and_then(Value::as_u64).unwrap_or(0);
    row(format!("prefill {} tokens, tokens/s", tokens("/prefill/tokens")), &|c| {
        rate(number(c, "/prefill/per_s"))
    });
    for n in 0..list(first, "/decode") {
        let name = format!("decode after {} tokens, tokens/s", tokens(&format!("/decode/{n}/depth")));
        row(name, &|c| rate(number(c, &format!("/decode/{n}/per_s"))));
    }
    let (prefix, new) = (tokens("/first_token/prefix_tokens"), tokens("/first_token/new_tokens"));
    row(format!("first token of {} + {new} tokens, cold, ms", prefix), &|c| {
        whole(number(c, "/first_token/cold_ms"))
    });
    row(format!("first token, {prefix} of them cached, ms"), &|c| whole(number(c, "/first_token/cached_ms")));
    for n in 0..list(first, "/throughput") {
        let name = format!("{} streams, engine, tokens/s", tokens(&format!("/throughput/{n}/streams")));
        row(name, &|c| rate(number(c, &format!("/throughput/{n}/per_s"))));
    }
    for (n, streams) in STREAMS.iter().enumerate() {
        row(format!("{streams} streams, over HTTP, tokens/s"), &|c| {
            rate(c.server.as_ref().map(|s| s.throughput[n]))
        });
    }
    row("memory at most (engine run)".into(), &|c| megabytes(number(c, "/memory/peak_bytes")));
    row("of which KV".into(), &|c| megabytes(number(c, "/memory/kv_bytes")));
    let idle = |c: &Column, pick: fn(&super::ServerFigures) -> Idle| c.server.as_ref().map(pick);
    let memory =
        |idle: Option<Idle>| megabytes(idle.and_then(|idle| idle.memory_bytes).map(|bytes| bytes as f64));
    let cpu = |idle: Option<Idle>| idle.and_then(|idle| idle.cpu_percent).map(|n| format!("{n:.1} %"));
    row("idle server without a model, memory".into(), &|c| memory(idle(c, |s| s.empty)));
    row("idle server without a model, CPU".into(), &|c| cpu(idle(c, |s| s.empty)));
    row("idle server with the model, memory".into(), &|c| memory(idle(c, |s| s.loaded)));
    row("idle server with the model, CPU".into(), &|c| cpu(idle(c, |s| s.loaded)));

    let machine = first.map(|f| {
        let text = |key: &str| f[key].as_str().unwrap_or_default().to_string();
        format!("perch {} on {}, {} threads\n\n", text("version"), text("cpu"), f["threads"])
    });
    let lines: Vec<String> = rows.iter().map(|cells| format!("| {} |", cells.join(" | "))).collect();
    format!("{}{}", machine.unwrap_or_default(), lines.join("\n"))
}

fn number(column: &Column, path: &str) -> Option<f64> {
    column.engine.as_ref()?.pointer(path)?.as_f64()
}

fn list(figures: Option<&Value>, path: &str) -> usize {
    figures.and_then(|f| f.pointer(path)).and_then(Value::as_array).map_or(0, Vec::len)
}

fn rate(value: Option<f64>) -> Option<String> {
    value.map(|n| format!("{n:.1}"))
}

fn whole(value: Option<f64>) -> Option<String> {
    value.map(|n| format!("{n:.0}"))
}

fn megabytes(bytes: Option<f64>) -> Option<String> {
    bytes.map(|bytes| format!("{:.0} MB", bytes / 1e6))
}
