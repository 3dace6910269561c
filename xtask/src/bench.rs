//! `cargo xtask bench`: random-weights models of a real shape, and the figures of `perch bench` on them.

use anyhow::Result;

use crate::serve;
use crate::shell;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let program = serve::build_release()?;
    shell::run(std::process::Command::new(program).arg("bench").args(args))
}
