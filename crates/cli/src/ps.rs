//! `perch ps`: what a running server is doing, by its own account.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use perch_protocol::{ModelState, ModelStatus, Status};
use perch_server::{Config, Scope};

use crate::args::Ps;
use crate::client::Client;
use crate::text;

pub(crate) async fn run(args: &Ps, config: &Config) -> Result<()> {
    let client = Client::new(&url(args, config), args.api_key.clone().or_else(|| key(config)))?;
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
    let rows: Vec<[String; 7]> = status.models.iter().map(row).collect();
    println!("\n{}", text::table(["MODEL", "STATE", "SIZE", "CONTEXT", "RUNNING", "WAITING", "KV"], &rows));
    Ok(())
}

/// The address that was given, or the configured one as seen from this machine.
fn url(args: &Ps, config: &Config) -> String {
    let host = match config.host.parse::<IpAddr>() {
        Ok(IpAddr::V4(all)) if all.is_unspecified() => "127.0.0.1".to_string(),
        Ok(IpAddr::V6(all)) if all.is_unspecified() => "[::1]".to_string(),
        Ok(IpAddr::V6(one)) => format!("[{one}]"),
        _ => config.host.clone(),
    };
    args.url.clone().unwrap_or_else(|| format!("http://{host}:{}", config.port))
}

/// A configured key that may see the status.
fn key(config: &Config) -> Option<String> {
    config.keys.iter().filter(|key| key.scopes.contains(&Scope::Admin)).find_map(|key| key.key.clone())
}

fn row(model: &ModelStatus) -> [String; 7] {
    let state = match model.state {
        ModelState::Loading => "loading",
        ModelState::Ready => "ready",
        ModelState::Restarting => "restarting",
        ModelState::Hung => "hung",
        ModelState::Failed => "failed",
    };
    [
        model.id.clone(),
        state.to_string(),
        text::bytes(model.weight_bytes),
        model.context_length.map(|length| length.to_string()).unwrap_or_default(),
        model.running.to_string(),
        model.waiting.to_string(),
        format!("{} of {}", text::bytes(model.kv_bytes), text::bytes(model.kv_budget_bytes)),
    ]
}

fn up_for(started_at: Option<u64>) -> String {
    let started = started_at.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
    let up = started.and_then(|started| SystemTime::now().duration_since(started).ok());
    up.map(|up| format!(", up for {}", text::duration(up))).unwrap_or_default()
}
