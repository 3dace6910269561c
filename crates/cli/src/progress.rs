//! `Progress`: a line on standard error for anything that takes longer than a second.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing is said before this has passed.
const PATIENCE: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(250);

/// Something that is going on. Says so after a second, and how long it has taken: a moving line on a terminal, one line
/// elsewhere. Dropping it ends the line.
#[derive(Debug)]
pub(crate) struct Progress {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to watch `what`, such as `Loading Qwen3-0.6B`.
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let (what, (done, ended)) = (what.into(), channel::<()>());
        let thread = std::thread::spawn(move || {
            let (start, terminal) = (Instant::now(), std::io::stderr().is_terminal());
            let mut wait = PATIENCE;
            let mut shown = false;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                match terminal {
                    true => eprint!("\r\x1b[K{what} … {} s", start.elapsed().as_secs()),
                    false if !shown => eprintln!("{what} …"),
                    false => {}
                }
                let _ = std::io::stderr().flush();
                (shown, wait) = (true, FRAME);
            }
            if shown && terminal {
                eprint!("\r\x1b[K");
            }
        });
        Self { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
