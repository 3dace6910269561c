//! Wire types: what clients send and what Perch answers, in each dialect, and the status that the tray and dashboard show.
//!
//! Plain data with serde and utoipa, nothing else: no HTTP, no defaults that depend on a model, no validation beyond
//! shape. Unknown fields are left to the reader (the server reports them by path), so no type here denies them.

mod de;
mod error;
pub mod openai;
mod status;

pub use error::{ErrorBody, ErrorCode, ErrorEnvelope};
pub use status::*;
