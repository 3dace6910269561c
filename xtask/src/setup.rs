//! What the tests need beyond Rust: Python and Node with the official client libraries, and a browser.
//!
//! Nothing here fails the run: what cannot be had comes back as a reason, and the tests that need it are skipped with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cache, shell};

/// A tool's place, or why there is none.
pub(crate) type Found = Result<PathBuf, String>;

/// The programs that drive the server from outside.
pub(crate) struct Clients {
    /// A Python with the `openai` package.
    pub(crate) python: Found,
    /// A `node_modules` folder with the `openai` package.
    pub(crate) node_modules: Found,
}

/// Makes the client environments, or takes them from the cache.
pub(crate) fn clients() -> Clients {
    Clients {
        python: python().map_err(|error| format!("{error:#}")),
        node_modules: node_modules().map_err(|error| format!("{error:#}")),
    }
}

pub(crate) fn python() -> Result<PathBuf> {
    let requirements = cache::root().join("tests/sdk/requirements.txt");
    python_with("python", "a Python environment with the official clients", &requirements)
}

/// A Python of its own, in the folder `name` of the cache, with the packages of `requirements`.
pub(crate) fn python_with(name: &str, what: &str, requirements: &Path) -> Result<PathBuf> {
    let dir = cache::keyed(name, &[requirements])?;
    let python = dir.join("bin").join("python");
    if dir.join("ready").exists() && shell::have(&python) {
        return Ok(python);
    }
    need("python3", &["python3", "python3-venv"], "python")?;
    if shell::output("python3", &["-c", "import ensurepip"]).is_none() {
        install(&["python3-venv"], "python")?;
    }
    say_making(what, &dir);
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements);
    shell::run(&mut pip)?;
    fs::write(dir.join("ready"), "")?;
    Ok(python)
}

fn node_modules() -> Result<PathBuf> {
    let sdk = cache::root().join("tests/sdk");
    let (package, lock) = (sdk.join("package.json"), sdk.join("package-lock.json"));
    let dir = cache::keyed("node", &[&package, &lock])?;
    let modules = dir.join("node_modules");
    need("node", &["nodejs", "npm"], "node")?;
    if dir.join("ready").exists() {
        return Ok(modules);
    }
    need("npm", &["npm"], "node")?;
    npm_ci("node modules with the official clients", &dir, &[&package, &lock])?;
    Ok(modules)
}

/// Installs what the lock file among `files` says into `dir`, unless it is there.
pub(crate) fn npm_ci(what: &str, dir: &Path, files: &[&Path]) -> Result<()> {
    if dir.join("ready").exists() {
        return Ok(());
    }
    say_making(what, dir);
    fs::create_dir_all(dir)?;
    for file in files {
        fs::copy(file, dir.join(file.file_name().context("no name")?))?;
    }
    shell::run(
        Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(dir),
    )?;
    fs::write(dir.join("ready"), "")?;
    Ok(())
}

/// A browser of Chromium's family: one that is here, or Debian's.
pub(crate) fn chromium() -> Found {
    let named = std::env::var_os("TESTS_CHROMIUM").map(PathBuf::from);
    let known =
        ["chromium", "chromium-browser", "google-chrome"].map(|name| Path::new("/usr/bin").join(name));
    let on_a_mac = PathBuf::from("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome");
    let found = || named.iter().chain(&known).chain([&on_a_mac]).find(|path| shell::have(path)).cloned();
    if let Some(path) = found() {
        return Ok(path);
    }
    if cfg!(target_os = "macos") {
        return Err("there is no Google Chrome; install it, or set TESTS_CHROMIUM".to_string());
    }
    install(&["chromium"], "chromium").map_err(|error| format!("{error:#}"))?;
    found().ok_or_else(|| "there is no chromium even after installing it".to_string())
}

/// A cargo tool of exactly this version, installed into the cache folder.
pub(crate) fn cargo_tool(name: &str, version: &str) -> Result<PathBuf> {
    cargo_tool_with(name, version, name, &[])
}

/// The same for a package whose program has another name, or that needs features beyond none.
pub(crate) fn cargo_tool_with(
    name: &str,
    version: &str,
    program: &str,
    features: &[&str],
) -> Result<PathBuf> {
    let program = cargo_tool_path(name, version, program)?;
    let root = tool_folder(name, version)?;
    if shell::have(&program) {
        return Ok(program);
    }
    say_making(&format!("{name} {version} (takes some minutes)"), &root);
    let mut install = shell::cargo();
    install.args(["install", "--locked", "--quiet", name, "--version", version, "--no-default-features"]);
    install.args(["--features", &features.join(",")]);
    install.arg("--root").arg(&root).env("CARGO_TARGET_DIR", root.join("target"));
    // It runs for seconds: what counts is how long it takes to build.
    for (setting, value) in [("OPT_LEVEL", "1"), ("LTO", "off"), ("CODEGEN_UNITS", "16"), ("DEBUG", "0")] {
        install.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
    }
    shell::run(&mut install)?;
    // The build's own leavings are ten times the program.
    let _ = fs::remove_dir_all(root.join("target"));
    Ok(program)
}

/// Where [`cargo_tool_with`] puts the program.
pub(crate) fn cargo_tool_path(name: &str, version: &str, program: &str) -> Result<PathBuf> {
    Ok(tool_folder(name, version)?.join("bin").join(program))
}

fn tool_folder(name: &str, version: &str) -> Result<PathBuf> {
    Ok(cache::dir()?.join("tools").join(format!("{name}-{version}")))
}

/// Makes sure that `program` can be run, installing packages if it cannot.
pub(crate) fn need(program: &str, apt: &[&str], brew: &str) -> Result<()> {
    if shell::have(program) {
        return Ok(());
    }
    install(apt, brew)?;
    if !shell::have(program) {
        bail!("`{program}` is still not there after installing it");
    }
    Ok(())
}

/// Installs system packages through the platform's own manager, and says so first.
pub(crate) fn install(apt: &[&str], brew: &str) -> Result<()> {
    let wanted = apt.join(" ");
    if cfg!(target_os = "macos") {
        if !shell::have("brew") {
            bail!("{brew} is missing, and there is no Homebrew to install it with");
        }
        eprintln!("Installing {brew} with Homebrew.");
        return shell::run(Command::new("brew").args(["install", brew]));
    }
    if !shell::have("apt-get") {
        bail!("{wanted} is missing; install it with this system's package manager");
    }
    let is_root = shell::output("id", &["-u"]).is_some_and(|id| id == "0");
    let prefix: &[&str] = match is_root {
        true => &[],
        false if shell::output("sudo", &["-n", "true"]).is_some() => &["sudo", "-n"],
        false => bail!("{wanted} is missing; run `sudo apt-get install {wanted}`"),
    };
    eprintln!("Installing {wanted} with apt-get.");
    let apt_get = |args: &[&str]| {
        let words: Vec<&str> =
            prefix.iter().copied().chain(["apt-get"]).chain(args.iter().copied()).collect();
        shell::run(Command::new(words[0]).args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // An old package list names versions that the mirror no longer has; a failed update may still install.
    let _ = apt_get(&["update", "--quiet"]);
    let mut args = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    args.extend(apt);
    apt_get(&args)
}

fn say_making(what: &str, place: &Path) {
    eprintln!("Installing {what} into {}.", place.display());
}
