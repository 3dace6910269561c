//! Conversations that the server keeps: `/api/v1/…`.
//!
//! A conversation is a tree of messages: each names its parent, and messages with one parent are alternatives to each
//! other (an edited question, an answer that was asked for again). [`Conversation::head`] is the end of the branch that is
//! shown. Times are milliseconds since 1970. Ids are 32 lower-case hexadecimal digits.

mod asking;
mod generate;
mod keeping;
mod message;
mod models;

pub use asking::*;
pub use generate::*;
pub use keeping::*;
pub use message::*;
pub use models::*;
