//! How much was asked of which model, by day: requests, tokens, errors, and how long they took.
//!
//! Nothing here leaves the machine, and nothing here is about a single request: a [`Ledger`] holds sums by day and model,
//! and times as a histogram. No prompt, answer, address, key or name that a client could make up comes in, see [`Entry`].
//! A [`Recorder`] keeps the ledger of a server, on a thread of its own; whatever befalls the file, no request waits for it
//! or fails with it.
//!
//! Knows no HTTP: routes are the server's.

mod entry;
mod error;
mod export;
mod file;
mod histogram;
mod ledger;
mod recorder;
mod report;

pub use entry::Entry;
pub use error::UsageError;
pub use export::{csv, parquet};
pub use file::{damaged_files, file_bytes};
pub use ledger::Ledger;
pub use recorder::Recorder;
pub use report::{Span, told};
