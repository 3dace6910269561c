//! `perch serve`: the server in the foreground, until a signal ends it.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use perch_backends::Backends;
use perch_server::{Config, LogBuffer, ServerHandle};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long running answers may go on once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(5);
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(crate) async fn run(config: Config, logs: LogBuffer) -> Result<ExitCode> {
    let models = config.data_dir.join("models");
    // Before the address is told, so that whoever reads it can already stop the server.
    let mut signals = Signals::listen()?;
    let backends = Arc::new(Backends::new(config.compute_threads()));
    let server = ServerHandle::start_with_logs(config, backends, logs).await?;
    // A reader that has gone away is no reason to end.
    let _ = writeln!(std::io::stdout(), "Perch is listening on {}", server.url());
    tracing::info!("open {} for the dashboard, /docs for the API; Ctrl-C stops the server", server.url());

    let all = server.pool().list().await;
    if all.iter().all(|model| model.built_in.is_some()) {
        let what = all.first().and_then(|model| model.built_in).map_or("nothing", |model| model.description);
        tracing::warn!(
            "there are no models yet, and requests are answered by: {what}; put one into {}, or name a folder with \
             --models-dir",
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
