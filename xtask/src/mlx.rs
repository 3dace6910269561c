//! `cargo xtask mlx`: the tests of the MLX backend, on a Mac with MLX as it is, on x86-64 Linux with MLX's CPU library.
//!
//! On Linux mlx-sys' build script is replaced, by cargo's own means, with a library made here: see `xtask/mlx/README.md`.
//! It lies within cargo's target folder, and goes when that goes.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

use crate::report::Report;
use crate::{cache, packages, setup, shell, suite};

/// What brings MLX into a build of all packages, where it is no matter of course.
pub(crate) const FEATURE: &str = "perch-backends/mlx";
/// Why a Mac builds without MLX.
const NO_COMPILER: &str = "Xcode's Metal compiler is missing; install Xcode and open it once";

/// What a build of the command or the app takes to have MLX: on a Mac, where Xcode's Metal compiler is there to build it. The command
/// line tools alone do not have it; Perch is then built without, and says so.
pub(crate) fn words() -> &'static [&'static str] {
    if !cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        return &[];
    }
    let compiler = shell::output("xcrun", &["--sdk", "macosx", "metal", "--version"]);
    match compiler.map(|_| setup::need("cmake", &[], "cmake")) {
        Some(Ok(())) => &["--features", "mlx"],
        Some(Err(error)) => {
            eprintln!("Perch is built without MLX: {error:#}.");
            &[]
        }
        None => {
            eprintln!("Perch is built without MLX: {NO_COMPILER}.");
            &[]
        }
    }
}

/// The backend's own package.
const OWN: [&str; 4] = ["-p", "perch-backend-mlx", "--features", "mlx"];
/// The test that has MLX behind a whole server. All packages are named, so that the builds of the other tests serve this one.
const SERVER: [&str; 5] = ["--workspace", "--features", FEATURE, "--test", "guide_forms"];

/// Runs the tests, `args` going to `cargo test`. On a Mac they are tests like all others.
pub(crate) fn test(args: &[String], report: &mut Report) -> Result<()> {
    if cfg!(target_os = "macos") {
        let mut command = shell::cargo();
        command.args(["test", "--no-fail-fast", "-p", "perch-backend-mlx", "-p", "perch-backends"]);
        return match words() {
            [] => {
                report.skipped("MLX", NO_COMPILER);
                Ok(())
            }
            _ => suite::tests(command.args(["--features", FEATURE]), args, report),
        };
    }
    let sdk = match sdk() {
        Ok(sdk) => sdk,
        Err(reason) => {
            report.skipped("MLX", format!("{reason:#}"));
            return Ok(());
        }
    };
    for selection in [&OWN[..], &SERVER] {
        let mut command = shell::cargo();
        command.args(["test", "--no-fail-fast"]).args(selection);
        suite::tests(with(&mut command, &sdk), args, report)?;
    }
    Ok(())
}

/// Adds to a cargo command what it needs to build and run with this library.
pub(crate) fn with<'a>(cargo: &'a mut Command, sdk: &Path) -> &'a mut Command {
    cargo.arg("--config").arg(sdk.join("cargo.toml")).env("LD_LIBRARY_PATH", sdk.join("mlx/lib"))
}

/// The library in place of mlx-sys' own build, made unless it is there.
pub(crate) fn sdk() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("MLX runs on macOS, and for tests on x86-64 Linux");
    }
    let here = cache::root().join("xtask/mlx");
    let sys = mlx_sys()?;
    let mut key = DefaultHasher::new();
    sys.hash(&mut key);
    for file in ["bindings.rs", "format.h", "half.cpp", "linux.c"] {
        fs::read(here.join(file))?.hash(&mut key);
    }
    let (sdk, key) = (cache::target().join("mlx-sdk"), format!("{:016x}", key.finish()));
    let ready = sdk.join("ready");
    if fs::read_to_string(&ready).is_ok_and(|made| made == key) {
        return Ok(sdk);
    }
    eprintln!("Making MLX's CPU library for tests (a minute) in {}.", sdk.display());
    let _ = fs::remove_dir_all(&sdk);
    let (objects, lib) = (sdk.join("objects"), sdk.join("lib"));
    fs::create_dir_all(&objects)?;
    fs::create_dir_all(&lib)?;
    setup::need("c++", &["g++"], "gcc")?;
    let mlx_c = sys.join("src/mlx-c");
    unpack_wheel(&wheel_version(&mlx_c)?, &sdk)?;

    let mut sources: Vec<PathBuf> =
        fs::read_dir(mlx_c.join("mlx/c"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    // A template that the others are written after.
    sources.retain(|path| path.extension().is_some_and(|e| e == "cpp") && !path.ends_with("object.cpp"));
    sources.push(here.join("half.cpp"));
    compile(&sources, &objects, |source, object| {
        let mut cxx = Command::new("c++");
        cxx.args(["-std=c++20", "-O1", "-fPIC", "-DNDEBUG", "-w", "-include"]).arg(here.join("format.h"));
        cxx.arg("-I").arg(&mlx_c).arg("-I").arg(sdk.join("mlx/include"));
        cxx.arg("-c").arg(source).arg("-o").arg(object);
        cxx
    })?;
    compile(&[here.join("linux.c")], &objects, |source, object| {
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-fPIC", "-c"]).arg(source).arg("-o").arg(object);
        cc
    })?;
    let mut archive = Command::new("ar");
    archive.arg("crs").arg(lib.join("libmlxc.a"));
    for entry in fs::read_dir(&objects)? {
        archive.arg(entry?.path());
    }
    shell::run(&mut archive)?;
    fs::remove_dir_all(&objects)?;
    fs::copy(here.join("bindings.rs"), lib.join("bindings.rs"))?;
    let (lib, wheel) = (lib.display(), sdk.join("mlx/lib"));
    let override_ = format!(
        "[target.x86_64-unknown-linux-gnu.mlx]\n\
         rustc-link-search = [\"native={lib}\", \"native={}\"]\n\
         rustc-link-lib = [\"static=mlxc\", \"dylib=mlx\", \"dylib=stdc++\"]\n\
         rustc-env = {{ OUT_DIR = \"{lib}\" }}\n",
        wheel.display()
    );
    fs::write(sdk.join("cargo.toml"), override_)?;
    fs::write(ready, key)?;
    Ok(sdk)
}

/// Where cargo keeps the sources of mlx-sys.
pub(crate) fn mlx_sys() -> Result<PathBuf> {
    let mlx_sys = packages::all()?.into_iter().find(|package| package.name == "mlx-sys");
    Ok(mlx_sys.context("there is no mlx-sys")?.folder)
}

/// The version of MLX that these sources of mlx-c are written for: others have other headers.
fn wheel_version(mlx_c: &Path) -> Result<String> {
    let cmake = fs::read_to_string(mlx_c.join("CMakeLists.txt"))?;
    let tag = cmake.split("GIT_TAG v").nth(1).context("mlx-c's CMakeLists.txt names no version of MLX")?;
    Ok(tag.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect())
}

/// Puts MLX's headers and libraries into `sdk`.
fn unpack_wheel(version: &str, sdk: &Path) -> Result<()> {
    let python = setup::python()?;
    let wheels = sdk.join("wheel");
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--only-binary", ":all:", "-d"]).arg(&wheels).arg(format!("mlx-cpu=={version}"));
    shell::run(&mut pip)?;
    let wheel = fs::read_dir(&wheels)?.next().context("pip fetched nothing")??.path();
    // The libraries find each other by their places beside one another.
    shell::run(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(wheel).arg(sdk))?;
    Ok(fs::remove_dir_all(wheels)?)
}

/// Runs the compiler for every source, one at a time on each core.
fn compile(
    sources: &[PathBuf],
    objects: &Path,
    compiler: impl Fn(&Path, &Path) -> Command + Sync,
) -> Result<()> {
    let left = Mutex::new(sources.iter());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            loop {
                let next = left.lock().map_err(|_| anyhow::anyhow!("another compiler failed"))?.next();
                let Some(source) = next else { return Ok(()) };
                let name = source.file_name().context("a source has a name")?;
                let mut object = objects.join(name).into_os_string();
                object.push(".o");
                let mut command = compiler(source, Path::new(&object));
                if !command.status().context("cannot run the compiler")?.success() {
                    bail!("{} does not compile", source.display());
                }
            }
        };
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(done) => done,
            Err(_) => bail!("a compiler's thread failed"),
        })
    })
}
