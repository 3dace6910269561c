//! `cargo xtask guide` and `guide-eval`: makes the built-in guide, and examines it through the API of a real server.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::report::Report;
use crate::{cache, serve, shell};

/// Trains the guide and puts it into `crates/guide`; `args` go to training/train.py.
pub(crate) fn make(args: &[String]) -> Result<()> {
    shell::run(Command::new(cache::root().join("training/make.sh")).args(args))
}

/// Prints how the guide of an optimised build does; `args` go to training/evaluate.py.
pub(crate) fn evaluate(args: &[String]) -> Result<()> {
    let Some(python) = python() else { bail!("python3 is missing; install it, 3.10 or later") };
    let perch = serve::build_release()?;
    let script = cache::root().join("training/evaluate.py");
    shell::run(Command::new(python).arg(script).arg("--perch").arg(perch).args(args))
}

/// Fails where the guide misses a mark that a release needs.
pub(crate) fn check(report: &mut Report) {
    if python().is_none() {
        return report.skipped("the guide's examination", "python3 is missing");
    }
    match evaluate(&["--check".to_string()]) {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("the guide's examination: {error:#}")),
    }
}

fn python() -> Option<PathBuf> {
    shell::have("python3").then(|| "python3".into())
}
