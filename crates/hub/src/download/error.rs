//! `DownloadError`: why a download cannot begin, or was given up.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::remote::{BadName, ChoiceError, HubError};

/// Why a download cannot begin, or was given up. Every message says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The hub refused or could not be asked.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// What was asked for is not in the repository.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The disk is too small.
    #[error(
        "{} are needed at {} and {} are free; delete models that you no longer use, or set HF_HOME to a larger disk",
        bytes(*needed), folder.display(), bytes(*available)
    )]
    Storage {
        /// Bytes that would have to be free.
        needed: u64,
        /// Bytes that are.
        available: u64,
        /// Where.
        folder: PathBuf,
    },
    /// What arrived, twice, is not what the hub has described.
    #[error(
        "`{file}` arrived damaged: its checksum is not the one that the hub gave; what arrived is deleted, try again"
    )]
    Checksum {
        /// The file.
        file: String,
    },
    /// The file on the hub is another now than the one that was planned.
    #[error("`{file}` has changed on the hub while it was downloaded; try again")]
    Changed {
        /// The file.
        file: String,
    },
    /// Two names that many file systems do not tell apart.
    #[error(
        "the repository has both `{first}` and `{second}`, which many disks do not tell apart; ask for one by `files`"
    )]
    SameName {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: Arc<io::Error>,
    },
    /// There is no such download.
    #[error("there is no download `{0}`; GET /local/downloads lists them")]
    Unknown(String),
    /// Perch is ending.
    #[error("Perch is shutting down; the download goes on when it runs again")]
    Stopping,
}

impl From<BadName> for DownloadError {
    fn from(error: BadName) -> Self {
        Self::Hub(error.into())
    }
}

impl DownloadError {
    /// A refusal of the disk.
    pub(crate) fn io(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path, source: Arc::new(source) }
    }

    /// Whether the same attempt may succeed a little later without anybody doing anything.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Hub(error) if error.is_transient())
    }
}

/// Bytes as people read them.
fn bytes(count: u64) -> String {
    let units = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB")];
    let found = units.into_iter().find(|(size, _)| count as f64 >= *size);
    found
        .map_or_else(|| format!("{count} bytes"), |(size, unit)| format!("{:.1} {unit}", count as f64 / size))
}
