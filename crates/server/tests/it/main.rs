//! The server over real sockets: real checkpoints on disk (tiny ones), the real tokenizer, template and engine, and a
//! backend without weights in place of the arithmetic.

mod admin;
mod calls;
mod chat;
mod chats;
mod completions;
mod concurrency;
mod control;
mod docs;
mod errors;
mod fixture;
mod http_limits;
mod library;
mod models;
mod pool;
mod pool_random;
mod script;
mod security;
mod settings;
mod shutdown;
mod status;
mod structured;
mod support;
mod upstream;
mod usage;
