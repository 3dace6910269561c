//! `Entry`: all that is taken over of a request.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use perch_protocol::{Outcome, RequestRecord};

/// All that is taken over of a request. Its route, its id and its time of day are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The day on which it began, by the machine's clock and time zone.
    pub day: Date,
    /// The model that answered, by its id on this machine; empty if none had taken it.
    pub model: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Of these, found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Milliseconds to the first token.
    pub first_token_ms: Option<u64>,
    /// Milliseconds in all.
    pub duration_ms: u64,
}

impl From<&RequestRecord> for Entry {
    fn from(record: &RequestRecord) -> Self {
        let at = i64::try_from(record.at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        Self {
            day: day_of(at.unwrap_or_else(Timestamp::now)),
            model: record.model.clone(),
            outcome: record.outcome.clone(),
            prompt_tokens: record.prompt_tokens,
            cached_tokens: record.cached_tokens,
            completion_tokens: record.completion_tokens,
            first_token_ms: record.first_token_ms,
            duration_ms: record.duration_ms,
        }
    }
}

/// The day that it is.
pub(crate) fn today() -> Date {
    day_of(Timestamp::now())
}

fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::system()).date()
}
