//! `cargo xtask link-macos`: the headless server linked as a Mac's program, on Linux, by the linker that comes with Rust.
//!
//! It proves that nothing which the program calls is missing and nothing is there twice: of its own code and C code (SQLite,
//! ring), of the C library, and of frameworks as the bindings declare them. It does not prove that Apple exports what a
//! binding declares, nor that the program runs. MLX, which only Xcode builds, and the menu bar app are not in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::TARGET;
use super::kit::{self, Kit};
use super::program::Program;
use super::stubs::Stubs;
use crate::bundle::{fresh, macos};
use crate::packages::{self, Package};
use crate::{cache, shell};

/// Links the program, looks at its imports and says what it is; where it lies.
pub(super) fn linked(kit: &Kit) -> Result<PathBuf> {
    let started = Instant::now();
    let list = kit.system_library()?;
    let list = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let mut stubs = Stubs::new(&list);
    for package in packages_within()? {
        stubs.read(&package).with_context(|| format!("cannot read the sources of {}", package.name))?;
    }
    stubs.write(&fresh(kit::stubs())?)?;
    let path = built(kit, &stubs)?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let program = Program::read(&data).with_context(|| format!("{}", path.display()))?;
    examine(&program, &stubs)?;
    let megabytes = data.len() as f64 / 1e6;
    println!("{}: {megabytes:.1} MB, in {minutes:.1} minutes", path.display());
    describe(&program);
    Ok(path)
}

/// Those packages whose code is in the program.
fn packages_within() -> Result<Vec<Package>> {
    let mut tree = shell::cargo();
    tree.args(["tree", "--locked", "--package", cache::PERCH, "--target", TARGET]);
    let output = tree.args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]).output();
    let output = output.context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    let within: BTreeSet<Vec<&str>> =
        list.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let mut packages = packages::all()?;
    packages
        .retain(|package| within.contains(&vec![package.name.as_str(), &format!("v{}", package.version)]));
    Ok(packages)
}

fn built(kit: &Kit, stubs: &Stubs) -> Result<PathBuf> {
    let mut key = DefaultHasher::new();
    stubs.libraries().for_each(|library| library.hash(&mut key));
    let mut cargo = kit.cargo("rustc");
    cargo.args(["--locked", "--package", cache::PERCH, "--bin", cache::PERCH, "--"]);
    // The linker is part of Rust. Other stubs make another program, which cargo cannot know: so it gets another name.
    cargo.arg("-C").arg(format!("metadata=stubs-{:016x}", key.finish()));
    cargo.env(format!("CARGO_TARGET_{}_LINKER", TARGET.replace('-', "_").to_uppercase()), "rust-lld");
    shell::run(&mut cargo)?;
    Ok(cache::target().join(TARGET).join("debug").join(cache::PERCH))
}

/// Whether it starts where the app promises to, and takes from each library only what that has.
fn examine(program: &Program, stubs: &Stubs) -> Result<()> {
    if program.minimum != macos::MINIMUM {
        bail!("the program is for macOS {}, and the app promises {}", program.minimum, macos::MINIMUM);
    }
    let exports: BTreeMap<String, &BTreeSet<String>> = stubs.libraries().collect();
    for (symbol, place) in &program.imports {
        let library = &program.libraries[*place];
        if !exports.get(library).is_some_and(|symbols| symbols.contains(symbol)) {
            bail!("{symbol} is taken from {library}, where nothing declares it");
        }
    }
    Ok(())
}

fn describe(program: &Program) {
    println!(
        "arm64, macOS {} or later; {} symbols of its own, {} taken from {} libraries:",
        program.minimum,
        program.defined,
        program.imports.len(),
        program.libraries.len()
    );
    for (place, library) in program.libraries.iter().enumerate() {
        let taken = program.imports.iter().filter(|(_, from)| *from == place).count();
        let name = Path::new(library).file_name().map(|name| name.to_string_lossy());
        println!("{taken:6}  {}", name.unwrap_or_default());
    }
    println!(
        "Not in it: MLX, which only Xcode builds, and the menu bar app. No C code was left out or replaced."
    );
    println!(
        "Not shown: that a Mac's frameworks export what bindings declare of them, and that the program runs."
    );
}
