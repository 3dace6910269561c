//! `perch ps`: what a running server is doing, by its own account.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use perch_protocol::{ModelState, ModelStatus, Status};
use perch_server::Config;

use crate::args::Ps;
use crate::client::Client;
use crate::text;

pub(crate) async fn run(args: &Ps, config: &Config) -> Result<()> {
    let client = Client::of(&args.server, config)?;
    let status: Status = client.get("/api/status").await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    let url = status.url.as_deref().unwrap_or("no address");
    let state = format!("{:?}", status.state).to_lowercase();
    println!("perch {} on {url}: {state}{}", status.version, up_for(status.started_at));
    if let Some(problem) = &status.error {
        println!("{}: {}", problem.code, problem.message);
    }
    let requests = &status.requests;
    println!(
        "requests: {} active, {} answered, {} failed, {} given up",
        requests.active, requests.completed, requests.failed, requests.cancelled
    );
    println!(
        "speed: {:.1} tokens/s prefill, {:.1} tokens/s decode",
        status.rates.prefill, status.rates.decode
    );
    if let Some(used) = &status.resources {
        let (memory, available) = (text::bytes(used.memory_bytes), text::bytes(used.available_memory_bytes));
        println!("memory: {memory} used, {available} available");
    }
    if status.models.is_empty() {
        println!("\nNo model is loaded.");
        return Ok(());
    }
    let rows: Vec<[String; 10]> = status.models.iter().map(row).collect();
    let heads =
        ["MODEL", "STATE", "BACKEND", "WEIGHTS", "KV", "SCRATCH", "CONTEXT", "RUNNING", "WAITING", "UNTIL"];
    println!("\n{}", text::table(heads, &rows));
    for problem in status.models.iter().filter_map(|model| model.error.as_ref()) {
        println!("{}: {}", problem.code, problem.message);
    }
    Ok(())
}

fn row(model: &ModelStatus) -> [String; 10] {
    let state = match model.state {
        ModelState::Loading => "loading",
        ModelState::Ready => "ready",
        ModelState::Restarting => "restarting",
        ModelState::Hung => "hung",
        ModelState::Failed => "failed",
    };
    let default = if model.default { " (default)" } else { "" };
    [
        format!("{}{default}", model.id),
        state.to_string(),
        model.backend.clone().unwrap_or_default(),
        text::bytes(model.weight_bytes),
        format!("{} of {}", text::bytes(model.kv_bytes), text::bytes(model.kv_budget_bytes)),
        text::bytes(model.scratch_bytes),
        model.context_length.map(|length| length.to_string()).unwrap_or_default(),
        model.running.to_string(),
        model.waiting.to_string(),
        until(model),
    ]
}

/// How long the model stays.
fn until(model: &ModelStatus) -> String {
    if model.state == ModelState::Failed {
        return String::new();
    }
    let left = model.expires_at.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    let left = left.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
    match (model.outdated, model.pinned, left) {
        (true, ..) => "unused: settings have changed".to_string(),
        (_, true, _) => "pinned".to_string(),
        (.., Some(left)) => format!("in {}", text::duration(left)),
        (.., None) if model.in_use > 0 => "in use".to_string(),
        (.., None) => "stays".to_string(),
    }
}

fn up_for(started_at: Option<u64>) -> String {
    let started = started_at.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    let up = started.and_then(|started| SystemTime::now().duration_since(started).ok());
    up.map(|up| format!(", up for {}", text::duration(up))).unwrap_or_default()
}
