//! The Hugging Face hub: what is there, and what of it could be downloaded and run.
//!
//! Everything that a server says is checked here before it becomes a name, a path or a number that others use.

mod client;
mod error;
mod listing;
mod providers;
mod refusal;
mod safe;
mod search;
mod settings;
mod tls;
mod variants;

pub(crate) use client::unreachable;
pub use client::{Hub, connections, host, reason};
pub use error::HubError;
pub use listing::{GgufFacts, RemoteFile, RepoInfo, RepoSummary};
pub use providers::Score;
pub(crate) use refusal::Subject;
pub use safe::{BadName, BlobName, Commit, RepoId, RepoPath, Revision};
pub use search::{Page, Search};
pub use settings::{HubSettings, Token};
pub use variants::{ChoiceError, Preference, Variant, is_mlx, matching, named, recommended, variants};
