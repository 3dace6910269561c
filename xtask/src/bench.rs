//! `cargo xtask bench`: models of real sizes with random weights, and one Markdown table of what they cost here.
//!
//! The engine's figures come from `perch bench`; those of the server are taken here, over HTTP, from a `perch serve`.

mod server;
mod soak;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cache, serve, shell};
use server::ServerFigures;

const HELP: &str = "\
Usage: cargo xtask bench [--models SHAPE:TYPE,…] [--server-only | --engine-only] [-- PERCH-BENCH-ARGS]
       cargo xtask bench [--models SHAPE:TYPE] --soak MINUTES

Makes models with random weights (once; they stay in the cache folder), measures each, and prints a Markdown table.
Shapes and types are those of `perch bench --random`. --soak asks the first model without a pause instead, and fails when
an answer does. Example:

  cargo xtask bench --models qwen3-0.6b:q4_k_m,qwen3-0.6b:q8_0 -- --repeat 5";

const DEFAULT_MODELS: &str = "qwen3-0.6b:q4_k_m,qwen3-0.6b:q8_0,qwen3-0.6b:q4_0,qwen3-0.6b:bf16";

/// One column of the table.
struct Column {
    recipe: String,
    engine: Option<Value>,
    server: Option<ServerFigures>,
}

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let (own, for_perch) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    let (mut models, mut engine, mut server) = (DEFAULT_MODELS.to_string(), true, true);
    let mut soak: Option<f64> = None;
    let mut words = own.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--models" => models = words.next().context("--models needs a value")?.clone(),
            "--soak" => {
                let minutes = words.next().and_then(|word| word.parse().ok()).filter(|m| *m > 0.0);
                soak = Some(minutes.context("--soak needs a number of minutes")?);
            }
            "--server-only" => engine = false,
            "--engine-only" => server = false,
            other => bail!("there is no option `{other}`\n\n{HELP}"),
        }
    }
    let perch = serve::build_release()?;
    if let Some(minutes) = soak {
        let first = models.split(',').next().unwrap_or_default();
        return soak::run(&perch, &make(&perch, first)?, minutes);
    }
    let mut columns = Vec::new();
    for recipe in models.split(',') {
        let model = make(&perch, recipe)?;
        let engine = engine.then(|| measure_engine(&perch, &model, for_perch)).transpose()?;
        let server = server.then(|| server::measure(&perch, &model)).transpose()?;
        columns.push(Column { recipe: recipe.to_string(), engine, server });
    }
    println!("{}", table::markdown(&columns));
    Ok(())
}

/// The model of a recipe, from the cache folder or made now.
fn make(perch: &Path, recipe: &str) -> Result<PathBuf> {
    let folder = cache::dir()?.join("models");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("random-{}.gguf", recipe.replace(':', "-")));
    if !path.exists() {
        eprintln!("Making {}.", path.display());
        shell::run(Command::new(perch).args(["bench", "--random", recipe, "--write"]).arg(&path))?;
    }
    Ok(path)
}

fn measure_engine(perch: &Path, model: &Path, args: &[String]) -> Result<Value> {
    let mut json = String::new();
    let mut command = Command::new(perch);
    command.arg("bench").arg(model).arg("--json").args(args);
    if !shell::lines(&mut command, |line| json.push_str(line))? {
        bail!("`perch bench` failed");
    }
    serde_json::from_str(&json).context("`perch bench --json` did not print JSON")
}
