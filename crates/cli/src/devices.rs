//! `perch devices`: what this machine can run models on, and what runs which.

use anyhow::Result;
use perch_backends::{Found, Kind};
use perch_server::Config;
use serde_json::json;

use crate::args::Devices;
use crate::text;

pub(crate) fn run(args: &Devices, config: &Config) -> Result<()> {
    let found = perch_backends::find(perch_backends::threads(config.compute_threads()));
    let chosen = config.pool.backend.as_deref().unwrap_or("auto");
    if args.json {
        let rows: Vec<_> = found
            .iter()
            .map(|one| {
                json!({
                    "backend": one.kind.name(),
                    "available": one.missing.is_none(),
                    "reason": one.missing,
                    "device": one.device,
                    "memory_bytes": one.memory,
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&json!({"devices": rows, "backend": chosen}))?);
        return Ok(());
    }
    let others = found.iter().any(|one| one.kind != Kind::Cpu && one.missing.is_none());
    let rows: Vec<[String; 4]> = found.iter().map(|one| row(one, others)).collect();
    println!("{}", text::table(["BACKEND", "DEVICE", "MEMORY", "RUNS"], &rows));
    match chosen {
        "auto" => println!("\nA model's own `backend`, or PERCH_BACKEND for all, chooses another."),
        name => println!("\nThe configuration says `backend = \"{name}\"` for all models."),
    }
    Ok(())
}

fn row(one: &Found, others: bool) -> [String; 4] {
    let runs = match (&one.missing, one.kind) {
        (Some(reason), _) => format!("nothing: {reason}"),
        (None, Kind::Cpu) if others => "models below 64 MB, and what nothing else takes".to_owned(),
        (None, Kind::Cpu) => "every model".to_owned(),
        (None, Kind::Metal) => "GGUF files".to_owned(),
        (None, Kind::Mlx) => "folders of safetensors, MLX's quantised ones among them".to_owned(),
    };
    let memory = match (one.memory, &one.missing) {
        (Some(bytes), None) => format!("up to {}", text::bytes(bytes)),
        _ => "–".to_owned(),
    };
    let device = if one.device.is_empty() { "–".to_owned() } else { one.device.clone() };
    [one.kind.name().to_owned(), device, memory, runs]
}
