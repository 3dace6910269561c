//! Scheduler, prefix cache, sampler and the engine thread, over any [`Backend`].
//!
//! One model has one engine thread, reached through an [`EngineHandle`]. The life of a request in here:
//!
//! 1. `handle`: [`EngineHandle::generate`] validates it (`validate`), takes a place in the queue (`shared`) and sends it
//!    to the thread (`thread`). Its [`Generation`] is the receiving end of its events.
//! 2. `engine`: each step drops what nobody reads any more, lets the `scheduler` plan, has the backend carry the plan
//!    out, and draws a token for every sequence that has computed all it has (`sampler`, [`Constraint`]).
//! 3. `scheduler`: admits waiting sequences with what the prefix `cache` holds of them, cuts prompts into chunks, sets
//!    KV aside and preempts.
//!
//! Under `testing` (a feature of that name) there is a backend without weights, and the conformance suite that every
//! real one has to pass.

mod backend;
mod cache;
mod config;
mod constraint;
mod engine;
mod handle;
mod pace;
mod rates;
mod request;
mod sampler;
mod scheduler;
mod shared;
mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod thread;
mod validate;

pub use backend::*;
pub use config::EngineConfig;
pub use constraint::{Constraint, ConstraintFactory, TokenMask};
pub use handle::{EngineHandle, Generation, StartError};
pub use request::*;
pub use stats::{EngineState, EngineStats};
