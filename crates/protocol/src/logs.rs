//! `/api/logs`: the recent lines of the log. Nothing here holds a prompt, an answer or a key.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How much a line matters; more first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happens.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// Counts up by one from line to line.
    pub seq: u64,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of Perch says it.
    pub target: String,
    /// What it says.
    pub message: String,
    /// What it says it about: `status=200 ms=3`.
    pub fields: String,
}

/// Query of `GET /api/logs` and `GET /api/logs/stream`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only lines that matter as much or more.
    pub level: Option<LogLevel>,
    /// Only lines after the one with this `seq`.
    pub after: Option<u64>,
    /// At most so many lines, the newest; all that are kept if absent.
    pub limit: Option<usize>,
}

/// Answer of `GET /api/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogList {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
    /// `seq` of the newest line, whether or not it was asked for: `after` of the next question.
    pub last: u64,
    /// Lines that are kept; older ones are forgotten.
    pub capacity: usize,
}
