//! `UsageError`: why usage cannot be counted or read.

use std::path::PathBuf;

/// Why usage cannot be counted or read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The disk is full.
    #[error("there is no space left on the disk to count usage; free some")]
    Full,
    /// The file is damaged.
    #[error(
        "the file of usage is damaged ({0}); it is set aside when it is next written to, or erase it with `perch usage --erase`"
    )]
    Damaged(String),
    /// The file cannot be used at all.
    #[error("usage cannot be counted: {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The recorder is closed, or its thread is gone.
    #[error("usage is not counted any more: Perch is shutting down, or its thread ended; the log says more")]
    Closed,
    /// Anything else that the database says.
    #[error("the file of usage cannot be read or written: {0}")]
    Database(String),
}

impl From<rusqlite::Error> for UsageError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
        match error.sqlite_error_code() {
            Some(DiskFull) => Self::Full,
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            // A value of another kind than those that are written.
            None => Self::Damaged(error.to_string()),
            Some(_) => Self::Database(error.to_string()),
        }
    }
}
