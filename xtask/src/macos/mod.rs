//! Perch for a Mac with Apple silicon, from Linux: `cargo xtask check-macos` checks every line that only a Mac compiles, and
//! the bundle around it; `cargo xtask link-macos` links the headless server.
//!
//! Nothing here runs a Mac's program. On a Mac itself the ordinary checks say all of this and more.

mod bundle;
mod declarations;
mod kit;
mod link;
mod mlx;
mod program;
mod stubs;

use anyhow::Result;

use crate::report::Report;
use crate::shell;
use kit::Kit;

/// What Perch is released for on a Mac.
const TARGET: &str = "aarch64-apple-darwin";

/// Lints the whole workspace, tests included, as a Mac compiles it; every warning is a failure. Then looks at the bundle.
/// `install` gets the signer too, where it is not there.
pub(crate) fn check(install: bool, report: &mut Report) {
    const NAME: &str = "the macOS code";
    let Some(kit) = kit(NAME, report) else { return };
    match clippy(&kit) {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("{NAME}: {error:#}")),
    }
    bundle::check(&kit, None, install, report);
}

/// Links the headless server, and looks at the bundle with it.
pub(crate) fn link(report: &mut Report) {
    const NAME: &str = "the macOS program";
    let Some(kit) = kit(NAME, report) else { return };
    match link::linked(&kit) {
        Ok(program) => {
            report.passed(1);
            bundle::check(&kit, Some(&program), false, report);
        }
        Err(error) => report.failed(format!("{NAME}: {error:#}")),
    }
}

/// What it takes, or a reason in the report.
fn kit(name: &str, report: &mut Report) -> Option<Kit> {
    if cfg!(target_os = "macos") {
        report.skipped(name, "this is a Mac, where every other check sees it");
        return None;
    }
    match Kit::set_up() {
        Ok(kit) => Some(kit),
        Err(error) => {
            report.skipped(name, format!("{error:#}"));
            None
        }
    }
}

fn clippy(kit: &Kit) -> Result<()> {
    let mut clippy = kit.cargo("clippy");
    shell::run(clippy.args([
        "--workspace",
        "--all-targets",
        "--locked",
        "--features",
        crate::mlx::FEATURE,
        "--",
        "-D",
        "warnings",
    ]))
}
