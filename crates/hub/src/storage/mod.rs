//! `Storage`: what lies on the disk for models, what may go, and its going.
//!
//! Invariants: nothing is removed but single files, links, entries and folders that are empty by then; a path, or the
//! bytes behind it, that another model of the library needs is never removed; neither is what a running program holds.
//! Every removal is planned first, as a list that can be shown, and looked at again when it is carried out.

mod act;
mod cached;
mod cleanup;
mod held;
mod hf;
mod paths;
mod plain;
mod plan;
mod protect;
mod remove;
mod usage;

use std::path::PathBuf;

use crate::library::Library;
use crate::settings::SettingsFile;
use crate::stores::{Programs, Stores};

pub use cleanup::CleanupOptions;
pub use paths::disk_space;
pub use remove::{RemoveError, RemoveOptions};
pub use usage::{ModelUsage, StoreUsage, Usage};

pub(crate) use paths::real_entry;

/// What lies on the disk for models. Cheap to make; looks at the disk each time it is asked.
#[derive(Debug, Clone)]
pub struct Storage {
    pub(crate) library: Library,
    pub(crate) stores: Stores,
    /// Models that the configuration names by their path, beside those in `models.toml`.
    references: Vec<Reference>,
}

/// A model that is named by its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What requests call it.
    pub id: String,
    /// The file or folder.
    pub path: PathBuf,
}

/// Something that goes, or could go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where it lies.
    pub path: PathBuf,
    /// What it is.
    pub kind: ItemKind,
    /// Bytes of disk that come free with it.
    pub bytes: u64,
    /// Why it is not needed.
    pub reason: String,
    /// Whether it is gone.
    pub removed: bool,
    /// Why it could not be removed.
    pub error: Option<String>,
}

impl Item {
    fn new(kind: ItemKind, path: PathBuf, bytes: u64, reason: impl Into<String>) -> Self {
        Self { path, kind, bytes, reason: reason.into(), removed: false, error: None }
    }
}

/// What an [`Item`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKind {
    /// A file of a model.
    File,
    /// A link of a model.
    Link,
    /// A folder that is empty by then.
    Folder,
    /// The entry of a model in `models.toml`; the path is that of `models.toml`.
    Entry,
    /// A blob that nothing refers to.
    OrphanedBlob,
    /// A download that was never finished.
    PartialDownload,
    /// A link to something that is not there.
    BrokenLink,
    /// A file of a revision that no branch or tag names.
    UnreferencedSnapshot,
    /// What an interrupted import left behind.
    AbandonedImport,
}

/// Something that stays although one could expect it to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it lies.
    pub path: PathBuf,
    /// Why it stays.
    pub reason: String,
}

/// A list of what goes and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// The model, where one is deleted.
    pub id: String,
    /// What goes, in the order of its going.
    pub items: Vec<Item>,
    /// What stays.
    pub kept: Vec<Kept>,
}

impl Removal {
    /// Bytes of disk that come free, or came free.
    pub fn freed_bytes(&self) -> u64 {
        self.items.iter().filter(|item| item.error.is_none()).map(|item| item.bytes).sum()
    }

    fn keep(&mut self, path: impl Into<PathBuf>, reason: impl Into<String>) {
        let (path, reason) = (path.into(), reason.into());
        if !self.kept.iter().any(|kept| kept.path == path) {
            self.kept.push(Kept { path, reason });
        }
    }
}

impl Storage {
    /// The storage of a library. `references` are the models that the configuration names by their path.
    pub fn new(library: Library, programs: &Programs, references: Vec<Reference>) -> Self {
        let stores = Stores::new(library.config(), programs);
        Self { library, stores, references }
    }

    /// The stores on this machine.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The `models.toml` of the library's data folder.
    pub fn settings_file(&self) -> SettingsFile {
        SettingsFile::new(self.library.config().data_dir.join("models.toml"))
    }

    /// All models that are named by a path, once each.
    fn all_references(&self) -> Vec<Reference> {
        let mut all = self.references.clone();
        let data_dir = &self.library.config().data_dir;
        for entry in self.settings_file().entries().unwrap_or_default() {
            let Some(path) = entry.path else { continue };
            let reference = Reference { id: entry.id, path: data_dir.join(path) };
            if !all.contains(&reference) {
                all.push(reference);
            }
        }
        all
    }
}
