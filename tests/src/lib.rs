//! What the black-box tests share: starting the real `perch`, talking to it over HTTP, and the models they need.
//!
//! A test that finds something missing on this machine (a model, Python) says so with [`skip!`] and returns;
//! `cargo xtask test` counts it as skipped and prints the reason.

mod api;
mod desktop;
mod fixtures;
mod hub;
mod process;
mod terminal;

pub use api::{Answer, Api};
pub use desktop::{desktop, play};
pub use fixtures::{RandomModel, client_libraries, stories, write_config};
pub use hub::{Faults, HubRepo, LocalHub, Seen, oid};
pub use process::{Perch, Server, perch};
pub use terminal::Terminal;

/// Says why this test cannot run here, and returns from it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}
