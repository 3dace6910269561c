//! Perch for a Mac with Apple silicon, from Linux: `cargo xtask check-macos` checks every line that only a Mac compiles, and
//! the bundle around it.
//!
//! Nothing here runs a Mac's program. On a Mac itself the ordinary checks say all of this and more.

mod bundle;
mod kit;
mod mlx;

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
    if cfg!(target_os = "macos") {
        return report.skipped(NAME, "this is a Mac, where every other check sees it");
    }
    let kit = match Kit::set_up() {
        Ok(kit) => kit,
        Err(error) => return report.skipped(NAME, format!("{error:#}")),
    };
    match clippy(&kit) {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("{NAME}: {error:#}")),
    }
    bundle::check(&kit, install, report);
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
