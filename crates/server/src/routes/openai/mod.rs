//! OpenAI's dialect over [`crate::inference`]: requests become jobs, deltas become chunks.

pub(crate) mod chat;
mod chat_encode;
mod chat_messages;
pub(crate) mod completions;
mod completions_encode;
pub(crate) mod models;
mod shared;
