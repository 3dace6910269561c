//! `cargo xtask bundle`: what this platform installs, in `target/bundle`.

mod linux;
pub(crate) mod macos;
mod update;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{cache, desktop, mlx, serve};

const HELP: &str = "\
Usage: cargo xtask bundle [--app BINARY_FOLDER]

Makes target/bundle/Perch.app and a disk image on a Mac, a Debian package on Linux.
--app assembles an unsigned Perch.app on any platform, from `perch`, `perch-app` and, where it is there, `mlx.metallib`
in that folder.";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let folder = cache::target().join("bundle");
    match args {
        [] if cfg!(target_os = "macos") => {
            let perch = serve::build_release()?;
            desktop::build_release()?;
            // Without Xcode's Metal compiler Perch was built without MLX.
            let with_mlx = !mlx::words().is_empty();
            let metallib = with_mlx.then(macos::metallib).transpose()?;
            let binaries = perch.parent().context("a binary lies in a folder")?;
            let app = macos::assemble(&folder, binaries, metallib.as_deref())?;
            macos::sign(&app)?;
            macos::check(&app, if with_mlx { &["--signed", "--metallib"] } else { &["--signed"] })?;
            macos::disk_image(&app)?;
            update::make(&app)
        }
        [] if cfg!(target_os = "linux") => linux::package(&folder, &serve::build_release()?),
        [flag, binaries] if flag == "--app" => {
            let binaries = Path::new(binaries);
            let metallib = Some(binaries.join("mlx.metallib")).filter(|path| path.is_file());
            let app = macos::assemble(&folder, binaries, metallib.as_deref())?;
            println!("{}", app.display());
            Ok(())
        }
        [flag] if flag == "--help" || flag == "-h" => {
            println!("{HELP}");
            Ok(())
        }
        [] => bail!("there is no installer for this platform"),
        _ => bail!("{HELP}"),
    }
}

/// An empty folder.
pub(crate) fn fresh(folder: PathBuf) -> Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Copies a file to where it is installed, with its folders.
fn put(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to.parent().context("a file lies in a folder")?).with_context(failed)?;
    fs::copy(from, to).with_context(failed)?;
    Ok(())
}

/// Writes a file where it is installed, with its folders.
fn write(to: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write {}", to.display());
    fs::create_dir_all(to.parent().context("a file lies in a folder")?).with_context(failed)?;
    fs::write(to, text).with_context(failed)
}

/// Perch's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
