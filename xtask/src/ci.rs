//! `cargo xtask ci`: every check that a change has to pass.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::report::Report;
use crate::{cache, desktop, guide, macos, mlx, setup, shell, suite};

/// The version of cargo-deny that `deny.toml` was written for.
const CARGO_DENY: &str = "0.20.2";

/// Runs all checks, the quick ones first; one that fails does not stop the others.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    check(
        report,
        "format",
        components().and_then(|()| shell::run(shell::cargo().args(["fmt", "--all", "--check"]))),
    );
    let all: &[&str] = match desktop::libraries() {
        Ok(()) => &["--workspace"],
        // The suite says so in the totals.
        Err(_) => &["--workspace", "--exclude", desktop::APP],
    };
    let lints = ["--all-targets", "--locked", "--", "-D", "warnings"];
    let mut clippy = shell::cargo();
    clippy.arg("clippy").args(all);
    // Where it can be had, so that the code which only a Mac has otherwise is looked at too.
    if let Ok(sdk) = mlx::sdk() {
        clippy.args(["--features", mlx::FEATURE]);
        mlx::with(&mut clippy, &sdk);
    }
    check(report, "clippy", shell::run(clippy.args(lints)));
    macos::check(false, report);
    let mut doc = shell::cargo();
    doc.arg("doc").args(all).args(["--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings");
    check(report, "docs", shell::run(&mut doc));
    deny(report);
    suite::run(&[], report)?;
    guide::check(report);
    Ok(())
}

fn check(report: &mut Report, name: &str, result: Result<()>) {
    match result {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("{name}: {error:#}")),
    }
}

/// rustfmt and clippy are not part of rustup's minimal profile.
fn components() -> Result<()> {
    for (component, program) in [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")] {
        if shell::have(program) {
            continue;
        }
        eprintln!("Installing {component} with rustup.");
        shell::run(Command::new("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

/// Licences, banned crates and sources always; advisories when their database can be had.
fn deny(report: &mut Report) {
    let program = match setup::cargo_tool("cargo-deny", CARGO_DENY) {
        Ok(program) => program,
        Err(error) => return report.failed(format!("licences and advisories: {error:#}")),
    };
    let deny = |args: &[&str]| {
        let mut command = Command::new(&program);
        // Duplicate versions are known (`cargo tree --duplicates`); what is shown here is what fails.
        command.current_dir(cache::root()).args(["--log-level", "error"]);
        command.args(["--workspace", "--all-features", "--locked"]).args(args);
        command
    };
    check(
        report,
        "licences, bans, sources",
        shell::run(&mut deny(&["check", "licenses", "bans", "sources"])),
    );
    let fetched = shell::run(&mut deny(&["fetch", "db"]));
    match fetched {
        Ok(()) => check(report, "advisories", shell::run(&mut deny(&["check", "advisories"]))),
        Err(_) if advisory_database().is_ok() => {
            eprintln!("The advisory database cannot be reached; the copy on this machine is used.");
            check(report, "advisories", shell::run(&mut deny(&["check", "--disable-fetch", "advisories"])));
        }
        Err(_) => report.skipped("advisories", "the advisory database cannot be reached and no copy is here"),
    }
}

/// Where an earlier run left the advisory database.
fn advisory_database() -> Result<PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    match cargo_home.map(|home| home.join("advisory-dbs")) {
        Some(dir)
            if std::fs::read_dir(&dir)
                .is_ok_and(|mut entries| entries.any(|e| e.is_ok_and(|e| e.path().is_dir()))) =>
        {
            Ok(dir)
        }
        _ => bail!("there is no advisory database"),
    }
}
