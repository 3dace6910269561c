//! Scheduler, prefix cache, sampler and the engine thread, over any [`Backend`].

mod backend;
mod request;

pub use backend::*;
pub use request::*;
