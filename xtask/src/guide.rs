//! `cargo xtask guide` and `guide-eval`: makes the built-in guide, and examines it through the API of a real server.

use std::path::{Path, PathBuf};
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
    examine(&serve::build_release()?, args)
}

fn examine(perch: &Path, args: &[String]) -> Result<()> {
    let Some(python) = python() else { bail!("python3 is missing; install it, 3.10 or later") };
    let script = cache::root().join("training/evaluate.py");
    shell::run(Command::new(python).arg(script).arg("--perch").arg(perch).args(args))
}

/// Fails where the guide has become worse than it was, asked through the binary that the tests have built.
pub(crate) fn check(report: &mut Report) {
    if python().is_none() {
        return report.skipped("the guide's examination", "python3 is missing");
    }
    let perch = cache::target().join("debug").join(cache::PERCH);
    match examine(&perch, &["--check".to_string()]) {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("the guide's examination: {error:#}")),
    }
}

fn python() -> Option<PathBuf> {
    shell::have("python3").then(|| "python3".into())
}
