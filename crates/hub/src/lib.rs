//! The models on this machine: what they are called, where they lie, which format they have.
//!
//! Nothing here is loaded or changed: a [`Library`] looks at folders afresh each time it is asked, so a model that was
//! copied in a moment ago is there, and one that was deleted is not. Every name that comes from a disk is checked
//! before it becomes a model id.

mod candidate;
mod config;
pub mod download;
mod facts;
mod folder;
mod hf_cache;
mod import;
mod library;
mod local;
mod lookup;
mod names;
mod profile;
pub mod remote;
mod settings;
mod storage;
mod stores;
mod walk;

pub use config::{LibraryConfig, hf_hub_cache};
pub use facts::{Facts, FactsCache, Verification};
pub use import::{
    Check, Checked, Found, ImportError, ImportMode, ImportOptions, ImportReport, ImportSource, Imported,
};
pub use library::{Incomplete, Library, NotFound, Survey};
pub use local::{Format, LocalModel, Source};
pub use names::quantization_label;
pub use profile::{Profile, Settings};
pub use settings::{SettingsEntry, SettingsError, SettingsFile};
pub use storage::{
    CleanupOptions, Item, ItemKind, Kept, ModelUsage, Reference, Removal, RemoveError, RemoveOptions,
    Storage, StoreUsage, Usage, disk_space,
};
pub use stores::{OllamaModel, OllamaParams, Programs, Store, StoreKind, Stores};
