//! The dashboard: its node modules, its build, its tests.
//!
//! Modules go to the cache folder, under a name that changes with the lock file, and are linked into `ui`; a `node_modules`
//! folder that somebody made there is used as it is. `ui/dist` is written only when something changed, because the
//! server is built again whenever it is.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::report::Report;
use crate::{cache, setup, shell};

/// The oldest Node that the build runs on.
const NODE: (u32, u32) = (20, 19);

fn folder() -> PathBuf {
    cache::root().join("ui")
}

/// Builds the dashboard, unless what lies there is built from the same sources.
pub(crate) fn build() -> Result<()> {
    let stamp = folder().join("dist").join(".stamp");
    let now = sources()?;
    if fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(());
    }
    modules()?;
    shell::run(&mut npm("build"))?;
    fs::write(stamp, now)?;
    Ok(())
}

/// Builds it, or says why Perch goes without.
pub(crate) fn build_if_possible() {
    if let Err(error) = build() {
        eprintln!("The dashboard cannot be built, and Perch goes without it: {error:#}");
    }
}

/// The tests of its logic, and those in a real browser against the `perch` binary.
pub(crate) fn test(perch: &Path, report: &mut Report) {
    if let Err(error) = build() {
        return report.skipped("the dashboard's tests", format!("{error:#}"));
    }
    match shell::run(&mut npm("check")) {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("types of the dashboard: {error:#}")),
    }
    tests(npm("test").args(["--", "--reporter=tap-flat"]), "the dashboard's logic", report);
    match setup::chromium() {
        Ok(chromium) => {
            let mut command = npm("e2e");
            command.env("TESTS_PERCH", perch).env("TESTS_CHROMIUM", chromium);
            tests(&mut command, "the dashboard in a browser", report);
        }
        Err(reason) => report.skipped("the dashboard in a browser", reason),
    }
}

/// Runs a program that speaks TAP, and counts.
fn tests(command: &mut Command, what: &str, report: &mut Report) {
    let failures = report.failures();
    let run = shell::lines(command, |line| {
        println!("{line}");
        read(line, what, report);
    });
    match run {
        Ok(true) => {}
        Ok(false) if report.failures() > failures => {}
        Ok(false) => report.failed(format!("{what}: did not end well; its message is above")),
        Err(error) => report.failed(format!("{what}: {error:#}")),
    }
}

/// One line of TAP; lines within a test are indented and do not count.
fn read(line: &str, what: &str, report: &mut Report) {
    let (good, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return,
    };
    let name = rest.split_once(" - ").map_or(rest, |(_, name)| name);
    match name.split_once(" # SKIP") {
        Some((name, reason)) => report.skipped(format!("{what}: {name}"), reason.trim()),
        None if good => report.passed(1),
        None => report.failed(format!("{what}: {}", name.split(" # ").next().unwrap_or(name))),
    }
}

fn npm(script: &str) -> Command {
    let mut command = Command::new("npm");
    command.args(["run", "--silent", script]).current_dir(folder());
    command
}

/// Makes sure that the modules of the lock file are there.
fn modules() -> Result<()> {
    let here = folder().join("node_modules");
    if here.exists() && !here.is_symlink() {
        return Ok(());
    }
    setup::need("node", &["nodejs", "npm"], "node")?;
    setup::need("npm", &["npm"], "node")?;
    check_node()?;
    let (package, lock) = (folder().join("package.json"), folder().join("package-lock.json"));
    let dir = cache::keyed("ui", &[&package, &lock])?;
    setup::npm_ci("the dashboard's node modules", &dir, &[&package, &lock])?;
    let there = dir.join("node_modules");
    if fs::read_link(&here).is_ok_and(|to| to == there) {
        return Ok(());
    }
    let _ = fs::remove_file(&here);
    link(&there, &here).with_context(|| format!("cannot link {}", here.display()))
}

fn check_node() -> Result<()> {
    let version = shell::output("node", &["--version"]).unwrap_or_default();
    let mut parts = version.trim_start_matches('v').split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < NODE {
        bail!("Node {}.{} or newer is needed, and here is {version}", NODE.0, NODE.1);
    }
    Ok(())
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_dir(to, at)
}

/// A word that changes with anything that the build reads.
fn sources() -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for name in ["index.html", "package-lock.json", "package.json", "svelte.config.js", "vite.config.ts"] {
        fs::read(folder().join(name)).with_context(|| format!("cannot read ui/{name}"))?.hash(&mut hasher);
    }
    hash_folder(&folder().join("src"), &mut hasher)?;
    Ok(format!("{:016x}", hasher.finish()))
}

fn hash_folder(folder: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    for path in paths {
        path.file_name().hash(hasher);
        if path.is_dir() {
            hash_folder(&path, hasher)?;
        } else {
            fs::read(&path)?.hash(hasher);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tap_is_counted_by_its_outer_lines() {
        let mut report = Report::default();
        let tap = "TAP version 13\n# Subtest: a\nok 1 - a\n  ---\n  duration_ms: 3\n  ...\n    not ok 1 - inner\n\
                   not ok 2 - b # time=3ms\nok 3 - c # SKIP no browser\n1..3\n# pass 1";
        for line in tap.lines() {
            read(line, "ui", &mut report);
        }
        assert_eq!(report.totals(), "1 passed, 1 failed, 1 skipped");
    }
}
