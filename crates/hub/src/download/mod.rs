//! Downloads into the Hugging Face cache: resumable, checked, shared with Hugging Face's own tools.
//!
//! A file is absent, partial or right. [`Downloads`] holds the jobs, a job a plan (the very files at one commit), and every
//! file is fetched in as many attempts as it takes, each of which begins where the last one ended.

mod blob;
mod cache;
mod downloads;
mod error;
mod fetch;
mod job;
mod limit;
mod plan;
mod progress;
mod retry;
mod space;
mod store;
mod view;

pub use downloads::{DownloadConfig, Downloads};
pub use error::DownloadError;
pub use plan::{Select, Wanted};
pub use view::{Download, DownloadFile, DownloadState};
