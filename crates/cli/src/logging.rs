//! Logs: to standard error, as text or JSON, as much as the configuration says; and to the dashboard.

use std::io::IsTerminal;

use perch_server::{Config, LogBuffer};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging at the configured level, or at `level`. What is logged is also kept in the buffer that comes back.
pub(crate) fn start(config: &Config, level: &str) -> LogBuffer {
    let wanted = config.log.as_deref().unwrap_or(level);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        eprintln!("warning: log = \"{wanted}\" is not understood ({error}); logging at `{level}`");
        EnvFilter::new(level)
    });
    let buffer = LogBuffer::default();
    let lines = match config.log_format.as_deref() {
        Some("json") => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        _ => {
            let text = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_target(false);
            text.with_writer(std::io::stderr).boxed()
        }
    };
    // A second start (in a test) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(buffer.clone()).try_init();
    buffer
}
