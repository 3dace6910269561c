//! The project's own commands: `cargo xtask run | app | test | mlx | ci | check-macos | link-macos | bench | bundle | icons`.
//!
//! They do all set-up themselves, say what they are about to install before they do it, keep what they install in the
//! user's cache folder, and change nothing in the checkout but `target`, `ui/dist` and the link `ui/node_modules`.

mod bench;
mod bundle;
mod cache;
mod ci;
mod desktop;
mod faq;
mod guide;
mod macos;
mod mlx;
mod packages;
mod report;
mod serve;
mod setup;
mod shell;
mod suite;
mod ui;

use std::process::ExitCode;

use anyhow::Result;

use report::Report;

const HELP: &str = "\
The project's own commands.

  cargo xtask run [ARGS]    Build Perch and start it: the menu bar app on a Mac, else the headless server;
                            ARGS go to `perch serve`, and with ARGS a Mac starts that too
  cargo xtask app           Build the app and start it, on Linux as well
  cargo xtask icons         Draw the icons from their SVGs
  cargo xtask test [ARGS]   Run every test that this machine can run; ARGS go to `cargo test`
  cargo xtask mlx [ARGS]    Run the tests of the MLX backend, on Linux with MLX's CPU library; part of `test` too
  cargo xtask ci            Format, lints, docs, licences and advisories, then all tests
  cargo xtask check-macos   Check on Linux what only a Mac compiles, and the bundle; part of `ci`. With --sign it
                            installs rcodesign (some minutes) and checks the bundle's signature as well
  cargo xtask link-macos    Link the headless server for a Mac, on Linux, to see that no symbol is missing (a quarter
                            of an hour at first); looks at the program, and signs it where rcodesign is
  cargo xtask bundle        Make the installer of this platform: Perch.app and a disk image, or a Debian package
  cargo xtask bench [ARGS]  Measure speed and memory on random-weights models; ARGS: --help
  cargo xtask guide [ARGS]  Train the built-in guide (two hours); ARGS go to training/train.py
  cargo xtask guide-eval [ARGS]
                            Examine the guide through the API; ARGS go to training/evaluate.py
  cargo xtask faq           Write docs/faq.md from what the guide learns

What is installed (Python environments, node modules, cargo-deny, models for measuring) goes to
${XTASK_CACHE:-${XDG_CACHE_HOME:-~/.cache}/perch}; removing that folder is always safe.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match command.as_str() {
        "run" if cfg!(target_os = "macos") && rest.is_empty() => {
            desktop::run(&[]).map(|()| ExitCode::SUCCESS)
        }
        "app" => desktop::run(&rest).map(|()| ExitCode::SUCCESS),
        "icons" => icons().map(|()| ExitCode::SUCCESS),
        "run" => serve::run(&rest).map(|()| ExitCode::SUCCESS),
        "test" => reported(|report| suite::run(&rest, report)),
        "ci" => reported(ci::run),
        "mlx" => reported(|report| mlx::test(&rest, report)),
        "check-macos" => reported(|report| {
            macos::check(rest.iter().any(|arg| arg == "--sign"), report);
            Ok(())
        }),
        "link-macos" => reported(|report| {
            macos::link(report);
            Ok(())
        }),
        "bundle" => bundle::run(&rest).map(|()| ExitCode::SUCCESS),
        "bench" => bench::run(&rest).map(|()| ExitCode::SUCCESS),
        "guide" => guide::make(&rest).map(|()| ExitCode::SUCCESS),
        "guide-eval" => guide::evaluate(&rest).map(|()| ExitCode::SUCCESS),
        "faq" => faq::write().map(|()| ExitCode::SUCCESS),
        "" | "help" | "-h" | "--help" => {
            println!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprintln!("error: there is no command `{other}`\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The renderer is a package of its own, so that the other commands need not build it.
fn icons() -> Result<()> {
    shell::run(shell::cargo().args(["run", "--quiet", "--package", "perch-icons"]))
}

/// Runs checks and prints their totals last, whatever happened.
fn reported(checks: impl FnOnce(&mut Report) -> Result<()>) -> Result<ExitCode> {
    let mut report = Report::default();
    if let Err(error) = checks(&mut report) {
        report.failed(format!("{error:#}"));
    }
    report.print();
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
