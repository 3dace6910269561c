//! Logs: to standard error, as text or JSON, as much as the configuration says.

use std::io::IsTerminal;

use perch_server::Config;
use tracing_subscriber::EnvFilter;

/// Starts logging at the configured level, or at `level`.
pub(crate) fn start(config: &Config, level: &str) {
    let wanted = config.log.as_deref().unwrap_or(level);
    let filter = EnvFilter::try_new(wanted).unwrap_or_else(|error| {
        eprintln!("warning: log = \"{wanted}\" is not understood ({error}); logging at `{level}`");
        EnvFilter::new(level)
    });
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (in a test) keeps the first.
    let _ = match config.log_format.as_deref() {
        Some("json") => logs.json().flatten_event(true).try_init(),
        _ => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
}
