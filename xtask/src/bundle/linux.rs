//! The Debian package: the command, its completions, a unit for the user's systemd.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{VERSION, fresh, put, write};
use crate::{cache, shell};

pub(super) fn package(folder: &Path, perch: &Path) -> Result<()> {
    if !shell::have("dpkg-deb") {
        bail!("dpkg-deb is not here; on other systems copy {} to where programs lie", perch.display());
    }
    let root = fresh(folder.join("deb"))?;
    let sources = cache::root().join("installers").join("linux");
    put(perch, &root.join("usr/bin/perch"))?;
    shell::run(Command::new("strip").arg(root.join("usr/bin/perch")))?;
    put(&sources.join("perch.service"), &root.join("usr/lib/systemd/user/perch.service"))?;
    put(&cache::root().join("LICENSE"), &root.join("usr/share/doc/perch/copyright"))?;
    for (shell, path) in [
        ("bash", "usr/share/bash-completion/completions/perch"),
        ("zsh", "usr/share/zsh/vendor-completions/_perch"),
        ("fish", "usr/share/fish/vendor_completions.d/perch.fish"),
    ] {
        let output = Command::new(perch).args(["completions", shell]).output().context("cannot run perch")?;
        write(&root.join(path), &String::from_utf8(output.stdout)?)?;
    }
    let architecture = shell::output("dpkg", &["--print-architecture"]).context("dpkg does not answer")?;
    let control = fs::read_to_string(sources.join("control")).context("cannot read the control file")?;
    let control = control
        .replace("@VERSION@", VERSION)
        .replace("@ARCHITECTURE@", &architecture)
        .replace("@SIZE@", &(size(&root)? / 1024).to_string())
        .replace("@LIBC@", &libc()?);
    write(&root.join("DEBIAN/control"), &control)?;
    let package = folder.join(format!("perch_{VERSION}_{architecture}.deb"));
    shell::run(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&root).arg(&package))?;
    println!("{}", package.display());
    Ok(())
}

/// The version of the C library here: a binary that was linked against it needs no older one.
fn libc() -> Result<String> {
    let said = shell::output("getconf", &["GNU_LIBC_VERSION"]).context("getconf does not answer")?;
    Ok(said.split_whitespace().last().context("getconf names no version")?.to_string())
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
