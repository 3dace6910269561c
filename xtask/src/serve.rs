//! `cargo xtask run`: builds Perch as users run it, and starts the server.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::{cache, shell};

/// Builds and becomes `perch serve`, so that signals and the exit code are the server's own.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let program = build_release()?;
    let mut command = std::process::Command::new(program);
    command.arg("serve").args(args);
    become_(command)
}

/// Builds the optimised binary and says where it is.
pub(crate) fn build_release() -> Result<PathBuf> {
    eprintln!("Building Perch; the first time takes some minutes.");
    shell::run(shell::cargo().args(["build", "--release", "--locked", "--package", "perch"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(cache::root().join("target"), PathBuf::from);
    let program =
        cache::root().join(target).join("release").join(format!("perch{}", std::env::consts::EXE_SUFFIX));
    program.canonicalize().with_context(|| format!("the build left no {}", program.display()))
}

#[cfg(unix)]
fn become_(mut command: std::process::Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).context("cannot start perch")
}

#[cfg(not(unix))]
fn become_(mut command: std::process::Command) -> Result<()> {
    shell::run(&mut command)
}
