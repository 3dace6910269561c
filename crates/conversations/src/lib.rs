//! Conversations, kept in one SQLite file.
//!
//! One thread writes; readers have connections of their own and never wait for it. What [`Store`] has acknowledged is on
//! the disk: transactions are synced before anyone is told of them, several at a time where several wait. A file that
//! turns out to be damaged is set aside by name and what can be read of it moves into a new one; see [`Recovery`].
//!
//! Knows no HTTP and no model: routes and prompts are the server's.

mod blobs;
mod check;
mod conversations;
mod error;
mod file;
mod id;
mod list;
mod markdown;
mod messages;
mod raw;
mod salvage;
mod schema;
mod search;
mod store;
mod title;
mod transfer;
mod turns;
mod validate;
mod writer;

pub use blobs::Image;
pub use error::StoreError;
pub use file::Recovery;
pub use id::new_id;
pub use store::Store;
pub use turns::{Parent, Said, Turn};
pub use validate::images_of;
pub use writer::Pending;
