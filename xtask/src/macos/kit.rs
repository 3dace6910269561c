//! `Kit`: what it takes to compile for a Mac on Linux. The standard library comes from rustup, a C compiler that knows
//! Darwin from PyPI (zig, which carries the headers of the C library), bindings of MLX from [`super::mlx`].

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{TARGET, mlx};
use crate::bundle::macos;
use crate::{cache, setup, shell};

/// A set-up machine.
pub(super) struct Kit {
    /// Python with `ziglang` and `libclang`.
    python: PathBuf,
    /// Where zig keeps what it compiled.
    zig_cache: PathBuf,
    /// Cargo's words in place of the build script of `mlx-sys`.
    mlx: PathBuf,
}

impl Kit {
    /// Takes everything from the cache, or installs it; says so before.
    ///
    /// # Errors
    /// What cannot be had on this machine, and why.
    pub(super) fn set_up() -> Result<Self> {
        standard_library()?;
        let requirements = cache::root().join("xtask/macos/requirements.txt");
        let python = setup::python_with("zig", "zig, a C compiler for a Mac (450 MB)", &requirements)?;
        let zig_cache = cache::dir()?.join("zig-objects");
        let mlx = mlx::override_file(&python)?;
        std::fs::create_dir_all(stubs())?;
        Ok(Self { python, zig_cache, mlx })
    }

    /// The C compiler and linker for the Mac.
    pub(super) fn compiler(&self) -> Command {
        let mut compiler = Command::new(tools().join("zig-cc"));
        self.environment(&mut compiler);
        compiler
    }

    /// `cargo COMMAND` for the Mac.
    pub(super) fn cargo(&self, command: &str) -> Command {
        let mut cargo = shell::cargo();
        // After the command: clippy hands its own words to cargo, and no others.
        cargo.args([command, "--target", TARGET, "--config"]).arg(&self.mlx);
        for (variable, tool) in [("CC", "zig-cc"), ("CXX", "zig-cxx"), ("AR", "zig-ar")] {
            cargo.env(format!("{variable}_{}", TARGET.replace('-', "_")), tools().join(tool));
        }
        // For every command, so that one does not undo another's work: build scripts that compile C look at both.
        cargo.env("SDKROOT", stubs()).env("MACOSX_DEPLOYMENT_TARGET", macos::MINIMUM);
        self.environment(&mut cargo);
        cargo
    }

    /// What the C library and all that is part of `libSystem` export, as zig knows it.
    pub(super) fn system_library(&self) -> Result<PathBuf> {
        Ok(zig_library(&self.python)?.join("libc/darwin/libSystem.tbd"))
    }

    /// What the scripts around zig need.
    fn environment(&self, command: &mut Command) {
        command.env("XTASK_ZIG_PYTHON", &self.python);
        command.env("ZIG_GLOBAL_CACHE_DIR", &self.zig_cache).env("ZIG_LOCAL_CACHE_DIR", &self.zig_cache);
    }
}

/// The folder in place of Apple's SDK, which [`mod@super::link`] fills.
pub(super) fn stubs() -> PathBuf {
    cache::target().join("macos-stubs")
}

/// The folder with zig's own headers and libraries.
pub(super) fn zig_library(python: &Path) -> Result<PathBuf> {
    Ok(package(python, "ziglang")?.join("lib"))
}

/// Where a Python package lies.
pub(super) fn package(python: &Path, name: &str) -> Result<PathBuf> {
    let code = format!("import {name}; print(list({name}.__path__)[0])");
    let place = shell::output(&python.to_string_lossy(), &["-c", &code]);
    Ok(place.context("the Python environment is broken")?.into())
}

/// The folder of the scripts.
fn tools() -> PathBuf {
    cache::root().join("xtask").join("macos")
}

/// Makes sure that rustc has the Mac's standard library.
fn standard_library() -> Result<()> {
    if has_standard_library()? {
        return Ok(());
    }
    if !shell::have("rustup") {
        bail!("rustc has no standard library for {TARGET}, and there is no rustup to add it");
    }
    eprintln!("Installing the standard library for {TARGET} with rustup.");
    shell::run(Command::new("rustup").args(["target", "add", TARGET]))?;
    if !has_standard_library()? {
        bail!("rustc still has no standard library for {TARGET} after installing it");
    }
    Ok(())
}

fn has_standard_library() -> Result<bool> {
    let folder = shell::output("rustc", &["--print", "target-libdir", "--target", TARGET])
        .with_context(|| format!("rustc does not know {TARGET}"))?;
    // Until it is installed the folder is only a name.
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    Ok(files.into_iter().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}
