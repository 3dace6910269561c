//! Logs: to standard error, and to the dashboard, which is where users of the app look.

use perch_server::LogBuffer;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging. What is logged is also kept in the buffer that comes back.
pub(crate) fn start(wanted: Option<&str>) -> LogBuffer {
    let buffer = LogBuffer::default();
    let filter = EnvFilter::try_new(wanted.unwrap_or("info")).unwrap_or_else(|_| EnvFilter::new("info"));
    let text = fmt::layer().with_ansi(false).with_target(false).with_writer(std::io::stderr);
    // A second start keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(text).with(buffer.clone()).try_init();
    buffer
}
