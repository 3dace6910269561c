//! `Plan`: a [`Removal`] in the making, which takes nothing that is needed.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::{Freed, real_entry};
use super::protect::Protected;
use super::{Item, ItemKind, Removal};

/// What the Finder leaves in every folder that it has shown.
const FINDER: &str = ".DS_Store";

/// A list in the making.
pub(super) struct Plan<'a> {
    pub(super) removal: Removal,
    protected: &'a Protected,
    freed: Freed,
    /// Entries on the list, by their real paths.
    going: HashSet<PathBuf>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(id: &str, protected: &'a Protected) -> Self {
        let removal = Removal { id: id.to_owned(), ..Removal::default() };
        Self { removal, protected, freed: Freed::default(), going: HashSet::new() }
    }

    /// Lists a file or link, unless a model needs it; then it is kept, and false comes back.
    pub(super) fn take(&mut self, kind: ItemKind, path: &Path, reason: &str) -> bool {
        let Some(real) = real_entry(path) else { return false };
        let Ok(meta) = fs::symlink_metadata(&real) else { return false };
        if meta.is_dir() || self.going.contains(&real) {
            return false;
        }
        if let Some(model) = self.protected.entry(&real) {
            self.removal.keep(path, format!("`{model}` needs it"));
            return false;
        }
        let bytes = self.freed.by(&meta);
        let kind = if meta.is_symlink() && kind == ItemKind::File { ItemKind::Link } else { kind };
        self.removal.items.push(Item::new(kind, path.to_owned(), bytes, reason));
        self.going.insert(real);
        true
    }

    /// Whether an entry is on the list.
    pub(super) fn goes(&self, path: &Path) -> bool {
        real_entry(path).is_some_and(|real| self.going.contains(&real))
    }

    /// Lists `folder` if it will be empty, and then those above it, up to `root`, which stays.
    pub(super) fn take_folders(&mut self, folder: &Path, root: &Path) {
        let mut at = folder.to_owned();
        while at.starts_with(root) && at != root && self.take_folder(&at) {
            let Some(above) = at.parent() else { return };
            at = above.to_owned();
        }
    }

    /// Lists `folder` if it is one and everything in it is on the list.
    pub(super) fn take_folder(&mut self, folder: &Path) -> bool {
        let Some(real) = real_entry(folder) else { return false };
        if !fs::symlink_metadata(&real).is_ok_and(|meta| meta.is_dir()) || self.going.contains(&real) {
            return false;
        }
        let Ok(entries) = fs::read_dir(&real) else { return false };
        let stays: Vec<PathBuf> =
            entries.flatten().map(|entry| entry.path()).filter(|path| !self.going.contains(path)).collect();
        match stays.as_slice() {
            [] => {}
            [only] if only.file_name().is_some_and(|name| name == FINDER) => {
                self.take(ItemKind::File, only, "the Finder's note about the folder");
            }
            _ => return false,
        }
        self.removal.items.push(Item::new(ItemKind::Folder, folder.to_owned(), 0, "empty then"));
        self.going.insert(real);
        true
    }
}
