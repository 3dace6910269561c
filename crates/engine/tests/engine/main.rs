//! Tests of the engine over the fake backend, by way of its public API.

mod answers;
mod common;
mod properties;
mod steps;
mod thread;
