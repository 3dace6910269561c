//! Exports as other programs read them.

use std::process::Command;

use perch_protocol::{Outcome, UsageRow};
use perch_usage::{Entry, Ledger, Span, csv, parquet};
use serde_json::Value;

use crate::support::{day, entry};

/// Rows with everything that could go wrong: names to quote, times that are not there, an error.
fn rows() -> Vec<UsageRow> {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let odd = "Ürsula \"the, model\"\n2";
    let failed =
        Entry { first_token_ms: None, ..entry(0, "", Outcome::Failed("model_not_found".to_owned())) };
    ledger
        .add(&[entry(1, odd, Outcome::Completed), entry(0, "a/b:Q4_K_M", Outcome::Completed), failed])
        .unwrap();
    ledger.days_of_models(Span::all()).unwrap()
}

#[test]
fn a_csv_reads_back_as_the_rows() {
    let rows = rows();
    let bytes = csv(&rows).unwrap();
    let mut reader = csv_reader(&bytes);
    let heading = reader.headers().unwrap().clone();
    assert_eq!(heading.iter().take(4).collect::<Vec<_>>(), ["day", "model", "requests", "completed"]);
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    for (record, row) in records.iter().zip(&rows) {
        let cell = |name: &str| &record[heading.iter().position(|known| known == name).unwrap()];
        assert_eq!(Some(cell("day")), row.day.as_deref());
        assert_eq!(Some(cell("model")), row.model.as_deref());
        assert_eq!(cell("completion_tokens"), row.completion_tokens.to_string());
        let p95 = row.first_token_ms.map(|times| times.p95.to_string()).unwrap_or_default();
        assert_eq!(cell("first_token_p95_ms"), p95);
        let errors: Value = serde_json::from_str(cell("errors")).unwrap();
        assert_eq!(errors, serde_json::to_value(&row.errors).unwrap());
    }
}

fn csv_reader(bytes: &[u8]) -> ::csv::Reader<&[u8]> {
    ::csv::Reader::from_reader(bytes)
}

/// DuckDB or PyArrow, whichever Python has.
const READ: &str = r#"
import json, sys
path = sys.argv[1]
try:
    import duckdb
    found = duckdb.sql(f"SELECT * FROM '{path}'")
    names = found.columns
    rows = [dict(zip(names, row)) for row in found.fetchall()]
except ImportError:
    import pyarrow.parquet
    rows = pyarrow.parquet.read_table(path).to_pylist()
print(json.dumps(rows, default=str))
"#;

#[test]
fn a_parquet_file_is_what_other_programs_read_in_the_rows() {
    let rows = rows();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.parquet");
    for (case, rows) in [("three rows", &rows[..]), ("no rows", &[])] {
        std::fs::write(&path, parquet(rows).unwrap()).unwrap();
        let Some(read) = python(&path) else { return };
        let expected: Vec<Value> = rows.iter().map(flat).collect();
        assert_eq!(read, Value::Array(expected), "{case}");
    }
    assert_eq!(rows[0].day, Some(day(1).to_string()));
}

fn flat(row: &UsageRow) -> Value {
    let (first, whole) = (row.first_token_ms, row.duration_ms);
    serde_json::json!({
        "day": row.day, "model": row.model, "requests": row.requests, "completed": row.completed,
        "cancelled": row.cancelled, "failed": row.failed, "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens, "completion_tokens": row.completion_tokens,
        "first_token_p50_ms": first.map(|t| t.p50), "first_token_p95_ms": first.map(|t| t.p95),
        "first_token_p99_ms": first.map(|t| t.p99), "duration_p50_ms": whole.map(|t| t.p50),
        "duration_p95_ms": whole.map(|t| t.p95), "duration_p99_ms": whole.map(|t| t.p99),
        "errors": serde_json::to_string(&row.errors).unwrap(),
    })
}

/// What Python reads; `None` (with the reason said) if it has neither library.
fn python(path: &std::path::Path) -> Option<Value> {
    let python = std::env::var("TESTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import importlib.util as u, sys\nsys.exit(not (u.find_spec('duckdb') or u.find_spec('pyarrow')))"]).status();
    if !there.is_ok_and(|status| status.success()) {
        println!("skipped: {python} has neither duckdb nor pyarrow; TESTS_PYTHON names another one");
        return None;
    }
    let read = Command::new(&python).args(["-c", READ]).arg(path).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    Some(serde_json::from_slice(&read.stdout).unwrap())
}
