//! For tests of this crate and of those that build on it: a backend without weights, an engine without a thread, the
//! sequential run that every other way of running must equal, and the conformance suite for real backends.

mod conformance;
mod driver;
mod fake;
mod oracle;
mod workload;

pub use conformance::Conformance;
pub use driver::Driver;
pub use fake::{FakeBackend, FakeModel, Fault, Probe};
pub use oracle::{Answer, Picker, pick, sequential};
pub use workload::{Job, Workload};
