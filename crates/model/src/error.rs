//! `ModelError`: why a checkpoint could not be read or is not supported.

use std::path::PathBuf;

/// Why a checkpoint could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A file of the checkpoint is damaged, truncated, hostile or inconsistent (`invalid_model_file`).
    #[error("{}: {reason}", path.display())]
    InvalidFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The file is well-formed, but this version does not run what it describes.
    #[error("{0}")]
    Unsupported(String),
    /// The file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}
