//! Entries and rows to count.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::{ToSpan, Zoned};
use perch_protocol::{Outcome, RequestRecord};
use perch_usage::{Entry, Ledger, Span};

/// An answer of a model, so many days ago.
pub(crate) fn entry(days_ago: i64, model: &str, outcome: Outcome) -> Entry {
    Entry {
        day: day(days_ago),
        model: model.to_owned(),
        outcome,
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 20,
        first_token_ms: Some(25),
        duration_ms: 400,
    }
}

pub(crate) fn day(days_ago: i64) -> Date {
    Zoned::now().date() - days_ago.days()
}

/// A request that has ended just now.
pub(crate) fn record(model: &str) -> RequestRecord {
    RequestRecord {
        id: "0192".to_owned(),
        route: "/v1/chat/completions".to_owned(),
        model: model.to_owned(),
        at: Zoned::now().timestamp().as_millisecond().cast_unsigned(),
        prompt_tokens: 3,
        cached_tokens: 0,
        completion_tokens: 5,
        first_token_ms: Some(7),
        duration_ms: 9,
        outcome: Outcome::Completed,
    }
}

pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join("usage.db")
}

/// Requests that the file in `folder` knows of.
pub(crate) fn counted(folder: &Path) -> u64 {
    let ledger = Ledger::look(folder).unwrap();
    ledger.map_or(0, |ledger| ledger.total(Span::all(), None).unwrap().requests)
}
