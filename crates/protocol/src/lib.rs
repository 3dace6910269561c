//! Wire types: what clients send and what Perch answers, in each dialect, and the status that the tray and dashboard show.
//!
//! Plain data with serde and utoipa, nothing else: no HTTP, no defaults that depend on a model, no validation beyond
//! shape. Unknown fields are left to the reader (the server reports them by path), so no type here denies them.

mod admin;
pub mod conversations;
mod de;
mod downloads;
mod error;
mod hub;
mod library;
mod logs;
pub mod openai;
mod server;
mod settings;
mod status;
mod usage;

pub use admin::*;
pub use downloads::*;
pub use error::{ErrorBody, ErrorCode, ErrorEnvelope};
pub use hub::*;
pub use library::*;
pub use logs::*;
pub use server::*;
pub use settings::*;
pub use status::*;
pub use usage::*;
