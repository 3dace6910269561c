//! `perch serve`: the server in the foreground, until a signal ends it.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use perch_backends::Backends;
use perch_server::{Config, ServerHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::Serve;

/// How long running answers may go on once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) async fn run(args: &Serve, config: Config) -> Result<ExitCode> {
    let models = config.data_dir.join("models");
    // Before the address is told, so that whoever reads it can already stop the server.
    let mut signals = Signals::listen()?;
    let server = ServerHandle::start(config, Arc::new(Backends::new(args.load.threads))).await?;
    // A reader that has gone away is no reason to end.
    let _ = writeln!(std::io::stdout(), "Perch is listening on {}", server.url());
    tracing::info!("open {}/docs for the API; Ctrl-C stops the server", server.url());

    if server.pool().list().await.is_empty() {
        tracing::warn!(
            "there are no models yet; put one into {}, or name a folder with --models-dir",
            models.display()
        );
    }

    signals.next().await;
    tracing::info!("stopping; running answers have {} s, Ctrl-C ends them at once", DRAIN.as_secs());
    tokio::select! {
        () = server.shutdown(DRAIN) => Ok(ExitCode::SUCCESS),
        () = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// The signals that end a server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
