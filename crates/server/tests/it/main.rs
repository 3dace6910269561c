//! The server over real sockets: real checkpoints on disk (tiny ones), the real tokenizer, template and engine, and a
//! backend without weights in place of the arithmetic.

mod chat;
mod completions;
mod concurrency;
mod docs;
mod errors;
mod fixture;
mod http_limits;
mod models;
mod pool;
mod script;
mod security;
mod shutdown;
mod status;
mod structured;
mod support;
