//! A desktop for the menu bar app: a display, a session bus and a home of its own, and a user made of Python.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::RandomModel;

/// One desktop at a time: their programs want a processor to themselves.
static TURN: Mutex<()> = Mutex::new(());

/// Longest that a scenario may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Why the app cannot be tested here, if it cannot.
///
/// # Errors
/// The reason.
pub fn desktop() -> Result<(), String> {
    if env::var_os("TESTS_APP").is_some() {
        return Ok(());
    }
    let missing = env::var("TESTS_APP_MISSING");
    Err(missing.unwrap_or_else(|_| "TESTS_APP is not set; run `cargo xtask test`".to_string()))
}

/// Runs a scenario of `tests/app/scenarios.py` on a fresh desktop whose library holds a tiny model.
///
/// # Panics
/// With the scenario's output if it fails.
pub fn play(scenario: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let perch = RandomModel::TINY.home("tiny");
    let home = perch.data_dir().parent().expect("a data folder has a parent").to_path_buf();
    let runtime = home.join("run");
    std::fs::create_dir_all(&runtime).expect("the home can be written to");
    let display = Display::open(&home);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("app/scenarios.py");
    let mut command = Command::new("timeout");
    command.arg("--kill-after=5").arg(LIMIT.as_secs().to_string());
    command.args(["dbus-run-session", "--", "/usr/bin/python3"]).arg(script).arg(scenario);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if ["PERCH_", "HF_", "XDG_", "WAYLAND_", "DBUS_"].iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
        .env("HOME", &home)
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("PERCH_DATA_DIR", perch.data_dir())
        .env("DISPLAY", format!(":{}", display.number))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs([("GDK_BACKEND", "x11"), ("LIBGL_ALWAYS_SOFTWARE", "1"), ("NO_AT_BRIDGE", "1")]);
    let output = command.output().expect("the scenario starts");
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{scenario} ({}):\n{said}\n{failed}", output.status);
    print!("{said}");
}

/// An X server without a screen.
struct Display {
    server: Child,
    number: String,
}

impl Display {
    fn open(home: &Path) -> Self {
        let log = File::create(home.join("xvfb.log")).expect("the home can be written to");
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1280x800x24", "-nolisten", "tcp"]);
        let mut server =
            command.stdout(Stdio::piped()).stderr(log).stdin(Stdio::null()).spawn().expect("Xvfb starts");
        let mut stdout = server.stdout.take().expect("stdout is piped");
        let mut number = String::new();
        let mut byte = [0];
        while stdout.read(&mut byte).is_ok_and(|read| read == 1) && byte[0] != b'\n' {
            number.push(char::from(byte[0]));
        }
        assert!(!number.is_empty(), "Xvfb told no display");
        Self { server, number }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
