//! `Terminal`: a program in a pseudo-terminal, typed to and read from as a person would.

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command as PtyCommand, Pty, open};

/// How long a screen may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program and the screen that it writes to. Dropping it kills the program.
pub struct Terminal {
    pty: Arc<Pty>,
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a command (its program, arguments and environment) on a screen of this size.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let (pty, pts) = open().expect("a pseudo-terminal");
        pty.resize(Size::new(rows, columns)).expect("a size");
        let mut inside = PtyCommand::new(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            inside = match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        let inside = inside.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let child = inside.spawn(pts).expect("the program starts");
        let (pty, screen) =
            (Arc::new(pty), Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 1_000))));
        let (from, to) = (pty.clone(), screen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = (&*from).read(&mut buffer) {
                to.lock().unwrap().process(&buffer[..count]);
            }
        });
        Self { pty, child, screen }
    }

    /// Types keys. Enter is `\r`, Ctrl-C `\x03`, Ctrl-D `\x04`, Tab `\t`.
    pub fn keys(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).expect("the program reads");
    }

    /// Types a line and Enter.
    pub fn line(&self, line: &str) {
        self.keys(line);
        self.keys("\r");
    }

    /// Changes the size of the screen; the program is told.
    pub fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(cells(rows), cells(columns));
        self.pty.resize(Size::new(rows, columns)).expect("a size");
    }

    /// The text on the screen.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// The text on the screen with its colours.
    pub fn styled(&self) -> String {
        self.screen.lock().unwrap().screen().contents_formatted()
    }

    /// Waits until the screen is as wanted, and returns its text.
    ///
    /// # Panics
    /// It never is.
    pub fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            if wanted(&text) {
                return text;
            }
            assert!(began.elapsed() < PATIENCE, "waited for {what}; the screen shows:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the screen shows a text.
    pub fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// Waits for the program's end.
    pub fn ends(mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end; the screen shows:\n{}", self.text());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).expect("a screen has a size")
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
