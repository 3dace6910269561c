//! What every SQLite file of ours needs, whatever it holds: it is private to its owner, its log is looked at before it is
//! used, its tables come in steps, and a damaged one gets another name.
//!
//! Knows no table: what is sound, and what can be saved, is for its owner to say.

mod files;
mod steps;
mod wal;

pub use files::{beside, free_name, private, remove};
pub use steps::{fold, migrate, version};
pub use wal::damage as log_damage;
