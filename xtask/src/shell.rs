//! Running other programs: shown before they run, with errors that name them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cache;

/// `cargo` as it called us, in the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(cache::root());
    // Cargo sets these for us; a nested cargo must not take them for its own package's.
    for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(name);
    }
    command
}

/// Runs a program to its end, its output going to ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a program and hands every line of its standard output to `line`. Whether it succeeded.
pub(crate) fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool> {
    eprintln!("$ {}", shown(command));
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {}", shown(command)))?;
    let stdout = child.stdout.take().context("the program has no output")?;
    for bytes in BufReader::new(stdout).split(b'\n') {
        line(&String::from_utf8_lossy(&bytes?));
    }
    Ok(child.wait()?.success())
}

/// Standard output of a quick program, or `None` if it cannot be run or fails.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let done = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_string())
}

/// Whether a program answers `--version`.
pub(crate) fn have(program: impl AsRef<Path>) -> bool {
    let mut command = Command::new(program.as_ref());
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Becomes another program, so that signals and the exit code are its own.
#[cfg(unix)]
pub(crate) fn become_(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).with_context(|| format!("cannot run {}", shown(&command)))
}

/// Runs another program in our place.
#[cfg(not(unix))]
pub(crate) fn become_(mut command: Command) -> Result<()> {
    run(&mut command)
}

fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name =
        Path::new(&*program).file_name().map_or(program.to_string(), |n| n.to_string_lossy().to_string());
    let args = command.get_args().map(|arg| arg.to_string_lossy().to_string());
    [name].into_iter().chain(args).collect::<Vec<_>>().join(" ")
}
