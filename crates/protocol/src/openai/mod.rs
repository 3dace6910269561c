//! OpenAI's dialect: chat completions, completions, models.
//!
//! Field names and shapes are those of OpenAI's public API reference; fields beyond it (`top_k`, `min_p`,
//! `repetition_penalty`, `chat_template_kwargs`, `reasoning_content`, `reasoning`) are named as vLLM and llama-server do.

mod chat;
mod chat_response;
mod common;
mod completions;
mod message;
mod models;

pub use chat::*;
pub use chat_response::*;
pub use common::*;
pub use completions::*;
pub use message::*;
pub use models::*;
