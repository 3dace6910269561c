//! `cargo xtask run`: builds Perch as users run it, and starts the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{cache, mlx, shell, ui};

/// Builds and becomes `perch serve`, so that signals and the exit code are the server's own.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let program = build_release()?;
    let mut command = Command::new(&program);
    command.arg("serve").args(args);
    if !args.iter().any(|arg| arg.starts_with("--model") && !arg.starts_with("--models-dir"))
        && let Some(model) = smallest_model(&program, args)
    {
        eprintln!("Loading {model}, the smallest model here; --model names another.");
        command.args(["--model", &model]);
    }
    shell::become_(command)
}

/// The id of the smallest model that the server will find, if there is one.
fn smallest_model(program: &Path, args: &[String]) -> Option<String> {
    let places =
        args.windows(2).filter(|pair| matches!(pair[0].as_str(), "--models-dir" | "--data-dir")).flatten();
    let output = Command::new(program).args(["list", "--json"]).args(places).output().ok()?;
    let models: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
    // Without a model of its own, the server answers with its built-in guide.
    let installed = models.iter().filter(|model| model["store"] != "built_in");
    let smallest = installed.min_by_key(|model| model["size_bytes"].as_u64())?;
    smallest["id"].as_str().map(str::to_string)
}

/// Builds the optimised binary and says where it is.
pub(crate) fn build_release() -> Result<PathBuf> {
    ui::build_if_possible();
    eprintln!("Building Perch; the first time takes some minutes.");
    let build = ["build", "--release", "--locked", "--package", "perch"];
    shell::run(shell::cargo().args(build).args(mlx::words()))?;
    let program = cache::target().join("release").join(cache::PERCH);
    program.canonicalize().with_context(|| format!("the build left no {}", program.display()))
}
