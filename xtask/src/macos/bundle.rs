//! The bundle from Linux: assembled around small programs that zig links, signed ad hoc, and tampered with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kit::Kit;
use crate::bundle::{fresh, macos};
use crate::report::Report;
use crate::{cache, desktop, setup, shell};

/// The package of `rcodesign`, which signs as Apple's `codesign` does, and its version.
const SIGNER: (&str, &str) = ("apple-codesign", "0.29.0");

/// What is done to a signed app, and a word of what the check has to say about it.
type Tampering = (&'static str, fn(&Path) -> Result<()>, &'static str);

const TAMPERINGS: &[Tampering] = &[
    ("a changed byte of code", |app| change(&app.join("Contents/MacOS/perch-app"), 0x1000), "code page"),
    ("a changed byte of the command", |app| change(&app.join("Contents/Helpers/perch"), 0x1000), "code page"),
    ("a changed icon", |app| change(&app.join("Contents/Resources/app.icns"), 99), "app.icns was changed"),
    (
        "changed kernels",
        |app| change(&app.join("Contents/Resources/mlx.metallib"), 0),
        "mlx.metallib was changed",
    ),
    ("another Info.plist", |app| add(&app.join("Contents/Info.plist"), "\n"), "special slot 1"),
    ("a file beside the programs", |app| add(&app.join("Contents/MacOS/more"), "x"), "not sealed"),
];

/// Checks structure and keys always, signatures where `rcodesign` is here; `install` gets it (some minutes). With `perch` the
/// command in the app is that program, else one that does nothing.
pub(super) fn check(kit: &Kit, perch: Option<&Path>, install: bool, report: &mut Report) {
    let app = match assembled(kit, perch) {
        Ok(app) => app,
        Err(error) => return report.failed(format!("the macOS bundle: {error:#}")),
    };
    report.passed(1);
    let signer = match signer(install) {
        Ok(signer) => signer,
        Err(error) => return report.skipped("the macOS bundle's signature", format!("{error:#}")),
    };
    match signed(&signer, &app) {
        Ok(()) => report.passed(1),
        Err(error) => report.failed(format!("the macOS bundle's signature: {error:#}")),
    }
}

/// An app whose programs do nothing, but for `perch` where it is given.
fn assembled(kit: &Kit, perch: Option<&Path>) -> Result<PathBuf> {
    let folder = fresh(cache::target().join("macos-bundle"))?;
    let binaries = fresh(folder.join("binaries"))?;
    let source = binaries.join("nothing.c");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    for name in [desktop::APP, cache::PERCH] {
        shell::run(kit.compiler().arg(&source).arg("-o").arg(binaries.join(name)))?;
    }
    if let Some(perch) = perch {
        fs::copy(perch, binaries.join(cache::PERCH)).context("cannot copy the command")?;
    }
    let metallib = binaries.join("mlx.metallib");
    fs::write(&metallib, "kernels")?;
    let app = macos::assemble(&folder, &binaries, Some(&metallib))?;
    macos::check(&app, &["--metallib"])?;
    Ok(app)
}

fn signer(install: bool) -> Result<PathBuf> {
    let there = Path::new("rcodesign");
    if shell::have(there) {
        return Ok(there.to_path_buf());
    }
    let (package, version) = SIGNER;
    let cached = setup::cargo_tool_path(package, version, "rcodesign")?;
    if !install && !shell::have(&cached) {
        bail!("rcodesign is not here; `cargo xtask check-macos --sign` installs it");
    }
    setup::cargo_tool_with(package, version, "rcodesign", &[])
}

fn signed(signer: &Path, app: &Path) -> Result<()> {
    let flags = ["--signed", "--metallib"];
    if macos::check(app, &flags).is_ok() {
        bail!("an app that is not signed passes for one that is");
    }
    let mut sign = Command::new(signer);
    sign.args(["sign", "--code-signature-flags", "runtime"]);
    sign.arg("--code-signature-flags").arg("Contents/Helpers/perch:runtime");
    let entitlements = macos::entitlements();
    sign.arg("--entitlements-xml-file").arg(&entitlements);
    sign.arg("--entitlements-xml-file").arg(format!("Contents/Helpers/perch:{}", entitlements.display()));
    shell::run(sign.arg(app))?;
    macos::check(app, &flags)?;
    for (what, tamper, word) in TAMPERINGS {
        let copy = fresh(app.with_file_name("tampered"))?.join("Perch.app");
        shell::run(Command::new("cp").arg("-a").arg(app).arg(&copy))?;
        tamper(&copy).with_context(|| format!("cannot make {what}"))?;
        match macos::check(&copy, &flags) {
            Ok(()) => bail!("{what} goes unnoticed"),
            Err(error) if !error.to_string().contains(word) => bail!("{what} gives: {error}"),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Changes the byte at `place`.
fn change(path: &Path, place: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    *bytes.get_mut(place).context("the file is too short")? ^= 1;
    Ok(fs::write(path, bytes)?)
}

/// Adds to the end of a file, which may not be there yet.
fn add(path: &Path, text: &str) -> Result<()> {
    let mut bytes = fs::read(path).unwrap_or_default();
    bytes.extend_from_slice(text.as_bytes());
    Ok(fs::write(path, bytes)?)
}
