//! Scheduler, prefix cache, sampler and the engine thread, over any [`Backend`].

mod backend;
mod cache;
mod config;
mod constraint;
mod engine;
mod handle;
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
