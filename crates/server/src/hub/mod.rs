//! What the hub offers, judged by what this version of Perch and this machine can do; and downloads from it.
//!
//! [`Advisor`] puts the judgement together: the hub's own words, the table of architectures, the memory of this machine, and
//! the models that are here already. The command line asks the same advisor as the routes do.

mod advisor;
mod details;
mod machine;
mod models;
mod popular;
mod remote;
mod support;
mod wire;

pub use advisor::Advisor;
pub use machine::preference;
pub(crate) use remote::Remote;
pub(crate) use wire::{download, wanted};
