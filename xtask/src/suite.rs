//! `cargo xtask test`: sets up, runs every test that this machine can run, and counts.
//!
//! A test that finds something missing prints a line `skipped: <reason>` and returns; it is counted as skipped here,
//! with its reason, though the test harness calls it passed.

use std::process::Command;

use anyhow::Result;

use crate::report::Report;
use crate::{cache, desktop, mlx, setup, shell, ui};

/// Sets up and runs `cargo test`, with `args` after its own.
pub(crate) fn run(args: &[String], report: &mut Report) -> Result<()> {
    let clients = setup::clients();
    ui::build_if_possible();
    let mut command = shell::cargo();
    command.args(["test", "--no-fail-fast"]);
    let (for_cargo, for_tests) = split_at_dashes(args);
    let names_packages = for_cargo.iter().any(|a| a == "-p" || a.starts_with("--package"));
    let mut perch = None;
    if !names_packages {
        command.arg("--workspace");
        let app = desktop::libraries();
        if let Err(reason) = &app {
            command.args(["--exclude", desktop::APP]);
            report.skipped("the menu bar app", format!("{reason:#}"));
        }
        let profile = if for_cargo.iter().any(|a| a == "--release") { "release" } else { "debug" };
        // The workspace's tests build the binary too, before they run; a build of its own would differ in features.
        let path = cache::target().join(profile).join(cache::PERCH);
        command.env("TESTS_PERCH", &path);
        perch = Some(path);
        match app.and_then(|()| desktop::programs()) {
            Ok(()) => command.env("TESTS_APP", cache::target().join(profile).join(desktop::APP)),
            Err(reason) => command.env("TESTS_APP_MISSING", format!("{reason:#}")),
        };
    }
    for (variable, found) in
        [("TESTS_PYTHON", &clients.python), ("TESTS_NODE_MODULES", &clients.node_modules)]
    {
        match found {
            Ok(path) => command.env(variable, path),
            Err(reason) => command.env(format!("{variable}_MISSING"), reason),
        };
    }
    tests(&mut command, args, report)?;
    // Whoever names packages or tests looks for one thing.
    if let Some(perch) = perch.filter(|_| for_tests.is_empty()) {
        mlx::test(for_cargo, report)?;
        ui::test(&perch, report);
    }
    Ok(())
}

/// Runs a `cargo test` with `args` after its own, and counts.
pub(crate) fn tests(command: &mut Command, args: &[String], report: &mut Report) -> Result<()> {
    let (for_cargo, for_tests) = split_at_dashes(args);
    command.args(for_cargo).arg("--").arg("--show-output").args(for_tests);
    let failures = report.failures();
    let mut reader = Reader::default();
    let good = shell::lines(command, |line| {
        if reader.read(line, report) {
            println!("{line}");
        }
    })?;
    if !good && report.failures() == failures {
        report.failed("`cargo test` did not build or did not end well; its message is above");
    }
    Ok(())
}

/// `cargo test` words before `--`, words for the tests after it.
fn split_at_dashes(args: &[String]) -> (&[String], &[String]) {
    match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[]),
    }
}

/// Reads the test harness's output, line by line.
#[derive(Default)]
struct Reader {
    /// Within the output of tests that passed: shown only where it says why one was skipped.
    in_successes: bool,
    /// Whose output the present lines are.
    test: String,
    /// Skips of the present test binary; the harness counts them as passed.
    skips: usize,
}

impl Reader {
    /// Takes in one line; whether it is worth showing.
    fn read(&mut self, line: &str, report: &mut Report) -> bool {
        if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" {
            self.in_successes = false;
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            let passed = count(counts, "passed");
            report.passed(passed.saturating_sub(self.skips));
            self.skips = 0;
            return true;
        } else if let Some(rest) = line.strip_prefix("---- ") {
            self.test = rest.split(' ').next().unwrap_or(rest).to_string();
        } else if let Some((test, outcome)) = line.strip_prefix("test ").and_then(|l| l.rsplit_once(" ... "))
        {
            if outcome.starts_with("FAILED") {
                report.failed(test);
            } else if outcome.starts_with("ignored") {
                report.skipped(test, "marked as ignored");
            }
        } else if self.in_successes
            && let Some(reason) = line.strip_prefix("skipped: ")
            && !self.test.is_empty()
        {
            report.skipped(std::mem::take(&mut self.test), reason);
            self.skips += 1;
        }
        !self.in_successes
    }
}

/// The number before `word` in `ok. 25 passed; 0 failed; …`.
fn count(counts: &str, word: &str) -> usize {
    let words: Vec<&str> = counts.split([' ', ';', '.']).filter(|w| !w.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(output: &str) -> String {
        let mut report = Report::default();
        let mut reader = Reader::default();
        for line in output.lines() {
            reader.read(line, &mut report);
        }
        report.totals()
    }

    #[test]
    fn a_test_that_says_it_was_skipped_counts_as_skipped_and_not_as_passed() {
        let output = "running 3 tests\ntest a ... ok\ntest b ... ok\ntest c ... ok\n\nsuccesses:\n\n\
                      ---- a stdout ----\nskipped: no models here\nskipped: twice\n\n---- b stdout ----\nhello\n\n\
                      successes:\n    a\n    b\n    c\n\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(totals(output), "2 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn failures_and_ignored_tests_are_counted_over_several_binaries() {
        let output = "test a ... ok\ntest b ... FAILED\n\nsuccesses:\n\nsuccesses:\n    a\n\nfailures:\n\n\
                      ---- b stdout ----\nskipped: said by a test that failed\n\nfailures:\n    b\n\n\
                      test result: FAILED. 1 passed; 1 failed; 0 ignored\n\
                      test c ... ignored, needs a GPU\ntest d ... ok\n\
                      test result: ok. 1 passed; 0 failed; 1 ignored\n";
        assert_eq!(totals(output), "2 passed, 1 failed, 1 skipped");
    }
}
