//! What the menu bar app needs from the system: libraries to build it, and a desktop to test it on. Linux only; a Mac
//! has both.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{cache, mlx, setup, shell, ui};

/// The app's package.
pub(crate) const APP: &str = "perch-app";

/// Debian's packages to build the app: the web view, and the tray's library, which is loaded when the app runs.
const LIBRARIES: &[&str] = &["pkg-config", "libwebkit2gtk-4.1-dev", "libayatana-appindicator3-1"];
/// Those to test it: a display, a session bus, a window manager, and Python for the tray's other side.
const DESKTOP: &[&str] = &[
    "xvfb",
    "dbus",
    "openbox",
    "wmctrl",
    "xdotool",
    "python3-dbus",
    "python3-gi",
    "webkit2gtk-driver",
    "fonts-dejavu-core",
    "adwaita-icon-theme",
];

/// Makes sure that the app can be built. An error says why it cannot.
pub(crate) fn libraries() -> Result<()> {
    if !cfg!(target_os = "linux") || has_libraries() {
        return Ok(());
    }
    setup::install(LIBRARIES, "")?;
    if !has_libraries() {
        bail!("webkit2gtk-4.1 is still not there after installing it");
    }
    Ok(())
}

/// Makes sure that the app can be tested. An error says why it cannot.
pub(crate) fn programs() -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("these tests drive a Linux desktop");
    }
    if has_programs() {
        return Ok(());
    }
    setup::install(DESKTOP, "")?;
    if !has_programs() {
        bail!("Xvfb or Python's D-Bus is still not there after installing it");
    }
    Ok(())
}

/// `cargo xtask app`: builds the app and becomes it.
pub(crate) fn run(args: &[String]) -> Result<()> {
    libraries()?;
    eprintln!("Building the app; the first time takes some minutes.");
    ui::build_if_possible();
    build_release()?;
    let mut command = Command::new(cache::target().join("release").join(APP));
    command.args(args);
    shell::become_(command)
}

/// Builds the optimised app.
pub(crate) fn build_release() -> Result<()> {
    let build = ["build", "--release", "--locked", "--package", APP];
    shell::run(shell::cargo().args(build).args(mlx::words()))
}

fn has_libraries() -> bool {
    let wanted = ["--exists", "webkit2gtk-4.1", "gtk+-3.0"];
    let tray =
        shell::output("ldconfig", &["-p"]).is_none_or(|known| known.contains("libayatana-appindicator3"));
    tray && shell::output("pkg-config", &wanted).is_some()
}

fn has_programs() -> bool {
    let python = || shell::output("/usr/bin/python3", &["-c", "import dbus, gi"]).is_some();
    let programs = ["Xvfb", "dbus-run-session", "openbox", "wmctrl", "xdotool", "WebKitWebDriver"];
    programs.iter().all(|name| shell::output("sh", &["-c", &format!("command -v {name}")]).is_some())
        && python()
}
