//! The clipboard, through the program that the system has for it, else through the terminal itself.

use std::io::Write;
use std::process::{Command, Stdio};

use base64::Engine;

/// Programs that take text on standard input, and the variable that says they can work.
const PROGRAMS: &[(&str, &[&str], &str)] = &[
    ("pbcopy", &[], ""),
    ("wl-copy", &[], "WAYLAND_DISPLAY"),
    ("xclip", &["-selection", "clipboard"], "DISPLAY"),
    ("xsel", &["--clipboard", "--input"], "DISPLAY"),
];

/// Copies, and says by what means. Over ssh only the terminal can (OSC 52), and not every terminal does.
pub(super) fn copy(text: &str) -> &'static str {
    for (program, args, variable) in PROGRAMS {
        let usable = variable.is_empty() || std::env::var_os(variable).is_some_and(|value| !value.is_empty());
        if usable && pipe_into(program, args, text) {
            return "Copied.";
        }
    }
    let encoded = base64::engine::general_purpose::STANDARD.encode(text);
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "\x1b]52;c;{encoded}\x07").and_then(|()| out.flush());
    "Copied through the terminal, if it allows that."
}

fn pipe_into(program: &str, args: &[&str], text: &str) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let written = child.stdin.take().is_some_and(|mut stdin| stdin.write_all(text.as_bytes()).is_ok());
    // xclip stays in the background by itself; what is waited for is its parent.
    child.wait().is_ok_and(|status| status.success()) && written
}
