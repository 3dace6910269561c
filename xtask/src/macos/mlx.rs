//! MLX's bindings for a Mac, without a Mac. There `mlx-sys` compiles MLX with Xcode and makes them; here cargo is told to
//! run no build script for it, and where the bindings lie that `bindgen` makes from the same headers.
//!
//! Nothing of this reaches a build on a Mac: the override is a file in the cache, named on cargo's command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::TARGET;
use super::kit::{package, zig_library};
use crate::{cache, mlx, setup, shell};

/// The version that `mlx-sys` itself uses.
const BINDGEN: &str = "0.72.1";

/// The file for cargo's `--config`.
pub(super) fn override_file(python: &Path) -> Result<PathBuf> {
    let source = mlx::mlx_sys()?;
    // The folder's name has the version in it.
    let version = source.file_name().context("mlx-sys lies in a folder")?.to_string_lossy();
    let name = format!("{version}-{TARGET}");
    let (folder, partial) = (cache::dir()?.join(&name), cache::dir()?.join(format!("{name}.new")));
    let file = folder.join("cargo.toml");
    if !file.exists() {
        fs::create_dir_all(&partial)?;
        bindings(&source.join("src/mlx-c"), python, &partial)?;
        write_override(&partial, &folder)?;
        let _ = fs::remove_dir_all(&folder);
        fs::rename(&partial, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(file)
}

/// Writes `bindings.rs` into `folder`, with the settings of `src/bindgen_config.rs` of mlx-sys.
fn bindings(mlx_c: &Path, python: &Path, folder: &Path) -> Result<()> {
    let bindgen = setup::cargo_tool_with("bindgen-cli", BINDGEN, "bindgen", &["runtime"])?;
    let mut headers: Vec<String> = fs::read_dir(mlx_c.join("mlx/c"))
        .with_context(|| format!("{} has no headers", mlx_c.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    headers.retain(|name| name.ends_with(".h"));
    headers.sort();
    let all: String = headers.iter().map(|name| format!("#include <mlx/c/{name}>\n")).collect();
    let header = folder.join("all.h");
    fs::write(&header, all)?;
    let libclang = package(python, "clang")?.join("native");
    let zig = zig_library(python)?;
    let mut command = Command::new(bindgen);
    command.env("LIBCLANG_PATH", libclang).arg(&header).arg("--output").arg(folder.join("bindings.rs"));
    command.args(["--rust-target", "1.73", "--blocklist-function", "malloc|realloc", "--"]);
    command.args(["-target", "arm64-apple-macosx14.0", "-nostdinc"]).arg(format!("-I{}", mlx_c.display()));
    for system in ["include", "libc/include/any-darwin-any"] {
        command.arg("-isystem").arg(zig.join(system));
    }
    shell::run(&mut command)
}

/// Tells cargo that the library is there. Linking is not: these settings are for checks.
fn write_override(partial: &Path, folder: &Path) -> Result<()> {
    let place = folder.to_str().context("the cache folder's name is not UTF-8")?;
    let text = format!("[target.{TARGET}.mlx]\nrustc-env = {{ OUT_DIR = {place:?} }}\n");
    fs::write(partial.join("cargo.toml"), text).context("cannot write the override")
}
