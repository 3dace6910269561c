//! `StoreError`: why conversations cannot be read or written.

use std::path::PathBuf;

/// Why conversations cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {kind} `{id}`")]
    NotFound {
        /// `conversation`, `message` or `image`.
        kind: &'static str,
        /// What was asked for, shortened.
        id: String,
    },
    /// A value cannot be used.
    #[error("{message}")]
    Invalid {
        /// Where it stands, as a path: `conversations[0].messages[2].parent`.
        field: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// What is there already does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The disk is full.
    #[error("there is no space left on the disk for conversations; free some and try again")]
    Full,
    /// The file cannot be used at all.
    #[error("conversations cannot be kept: {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The file is damaged. It is set aside when it is next opened.
    #[error(
        "the file of conversations is damaged ({0}); restart Perch, which sets it aside and saves what can be read"
    )]
    Damaged(String),
    /// The store is closed, or what was asked together with this failed.
    #[error("this was not kept: Perch is shutting down, or writing failed; its log says more")]
    Closed,
    /// Anything else that the database says.
    #[error("the file of conversations cannot be read or written: {0}")]
    Database(String),
}

impl StoreError {
    pub(crate) fn not_found(kind: &'static str, id: &str) -> Self {
        Self::NotFound { kind, id: id.chars().take(64).collect() }
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&rusqlite::Error> for StoreError {
    fn from(error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
        match error.sqlite_error_code() {
            Some(DiskFull) => Self::Full,
            Some(DatabaseCorrupt | NotADatabase) => Self::Damaged(error.to_string()),
            _ => Self::Database(error.to_string()),
        }
    }
}

/// What is stored is not what was written.
impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}
