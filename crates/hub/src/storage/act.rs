//! Carrying out a [`Removal`]: entry by entry, each looked at once more.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::held::Held;
use super::paths::real_entry;
use super::protect::Protected;
use super::{Item, ItemKind, Removal, Storage};

impl Storage {
    /// Removes what `plan` lists. What a program has begun to hold since, or a model to need, stays and says so; what is
    /// gone already counts as removed. Blocks.
    pub(super) fn carry_out(&self, mut plan: Removal, protected: &Protected) -> Removal {
        let held = Held::now();
        for item in &mut plan.items {
            let done = match item.kind {
                ItemKind::Entry => {
                    self.settings_file().remove(&plan.id).map(|_| ()).map_err(|error| error.to_string())
                }
                ItemKind::Folder => remove_folder(&item.path),
                _ => remove_file(item, protected, &held),
            };
            match done {
                Ok(()) => item.removed = true,
                Err(error) => item.error = Some(error),
            }
        }
        plan
    }
}

/// Removes a folder if it is empty; one that something was put into is no longer ours to remove.
fn remove_folder(path: &Path) -> Result<(), String> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn remove_file(item: &Item, protected: &Protected, held: &Held) -> Result<(), String> {
    let meta = match fs::symlink_metadata(&item.path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| error.to_string())?,
    };
    if meta.is_dir() {
        return Err("it is a folder now".to_owned());
    }
    let real = real_entry(&item.path).ok_or("its folder is gone")?;
    if let Some(model) = protected.entry(&real) {
        return Err(format!("`{model}` needs it"));
    }
    if let Some(holder) = held.by(&meta).filter(|_| meta.is_file()) {
        return Err(format!("{holder} is using it"));
    }
    fs::remove_file(&item.path).map_err(|error| error.to_string())
}
