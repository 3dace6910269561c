//! The models on this machine: what they are called, where they lie, which format they have.
//!
//! Nothing here is loaded or changed: a [`Library`] looks at folders afresh each time it is asked, so a model that was
//! copied in a moment ago is there, and one that was deleted is not. Every name that comes from a disk is checked
//! before it becomes a model id.

mod candidate;
mod config;
mod folder;
mod hf_cache;
mod library;
mod local;
mod lookup;
mod names;
mod walk;

pub use config::{LibraryConfig, hf_hub_cache};
pub use library::{Library, NotFound};
pub use local::{Format, LocalModel, Source};
pub use names::quantization_label;
