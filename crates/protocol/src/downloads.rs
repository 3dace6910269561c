//! What `/local/download…` asks and answers: models on their way from the hub to this machine.
//!
//! Times are milliseconds since 1970, sizes are bytes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// Body of `POST /local/download`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DownloadRequest {
    /// `author/name`, or `author/name:Q4_K_M` for one quantisation of a GGUF repository.
    pub model: String,
    /// The quantisation, if `model` does not name it. Without either: Q4_K_M of a GGUF repository, or what fits best; all
    /// that is needed to run any other.
    pub quantization: Option<String>,
    /// Only these files, as paths or patterns with `*` and `?`; not together with a quantisation. `["*"]` is everything.
    pub files: Option<Vec<String>>,
    /// A branch, tag or commit; `main` if not said.
    pub revision: Option<String>,
}

/// Where a download is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DownloadState {
    /// Waits for others to end.
    Queued,
    /// Bytes arrive.
    Downloading,
    /// Waits to try again after a failure; `error` says which.
    Retrying,
    /// Stands still until it is resumed. What has arrived is kept.
    Paused,
    /// All files are there and checked.
    Completed,
    /// Given up; `error` says why. What has arrived is kept, and resuming tries again.
    Failed,
}

/// A model on its way from the hub to this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Download {
    /// Names it in routes.
    pub id: String,
    /// The repository, `author/name`.
    pub repo: String,
    /// What requests will call the model: `author/name:Q4_K_M`.
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
    pub error: Option<Problem>,
    /// Its files, in the order in which they are fetched.
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
    pub created_at: u64,
    /// When it was completed or given up.
    pub ended_at: Option<u64>,
}

/// A file of a download.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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

/// Answer of `GET /local/downloads`, and each event of `GET /local/download/status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DownloadList {
    /// Every download that has not been removed, in the order in which they were asked for.
    pub downloads: Vec<Download>,
}
