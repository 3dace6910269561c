//! `Download`: a download as everybody sees it.

use std::time::SystemTime;

use super::error::DownloadError;

/// Where a download is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DownloadState {
    /// Waits for others to end.
    Queued,
    /// Bytes arrive, or a file is being checked.
    Downloading,
    /// Waits to try again.
    Retrying,
    /// Stands still until it is resumed.
    Paused,
    /// All files are there and checked.
    Completed,
    /// Given up.
    Failed,
}

/// A model on its way from the hub to this machine, at one moment.
#[derive(Debug, Clone)]
pub struct Download {
    /// Names it.
    pub id: String,
    /// `author/name`.
    pub repo: String,
    /// What requests will call the model.
    pub model: String,
    /// The quantisation that was asked for or chosen.
    pub quantization: Option<String>,
    /// The branch, tag or commit that was asked for.
    pub revision: String,
    /// The commit that is downloaded.
    pub commit: String,
    /// Where it is in its life.
    pub state: DownloadState,
    /// What went wrong, when failed or about to try again.
    pub error: Option<DownloadError>,
    /// Its files.
    pub files: Vec<DownloadFile>,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Bytes that are on this machine.
    pub done_bytes: u64,
    /// Bytes a second that arrive now.
    pub bytes_per_second: u64,
    /// Seconds that are left at this rate.
    pub seconds_left: Option<u64>,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// When it was completed or given up.
    pub ended_at: Option<SystemTime>,
}

/// A file of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// Bytes of it that are on this machine.
    pub done_bytes: u64,
    /// Whether it is there and checked.
    pub completed: bool,
}
