//! The Hugging Face cache: `models--org--name/{refs,snapshots/<revision>,blobs}`.
//!
//! One revision of a repository counts: the one that `refs/main` names, or else the newest that holds a model. Links
//! in a snapshot may lead to the repository's own blobs or elsewhere in the cache, not out of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::folder::{self, Weights};
use crate::names;
use crate::walk::{self, Links};

/// A model of a repository in the cache.
pub(crate) struct Cached {
    pub(crate) repo: String,
    pub(crate) weights: Weights,
}

/// All models in the cache folder `hub`, by repository name. Empty where there is no such folder.
pub(crate) fn models(hub: &Path) -> Vec<Cached> {
    let Ok(entries) = fs::read_dir(hub) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort_unstable();
    folders.iter().flat_map(|folder| repo_models(folder)).collect()
}

/// The models of one `models--org--name` folder; none if it is not one.
pub(crate) fn repo_models(folder: &Path) -> Vec<Cached> {
    let repo = folder.file_name().and_then(|name| name.to_str()).and_then(names::repo_of_cache_folder);
    let Some(repo) = repo else { return Vec::new() };
    let roots: Vec<PathBuf> =
        [Some(folder), folder.parent()].into_iter().flatten().filter_map(|p| p.canonicalize().ok()).collect();
    let found = snapshots(folder)
        .into_iter()
        .map(|snapshot| snapshot_weights(&snapshot, Links::Within(&roots)))
        .find(|weights| !weights.is_empty());
    let cached = |weights| Cached { repo: repo.clone(), weights };
    found.unwrap_or_default().into_iter().map(cached).collect()
}

/// The repository that a snapshot folder belongs to, if `path` is one.
pub(crate) fn repo_of_snapshot(path: &Path) -> Option<String> {
    let snapshots = path.parent()?;
    if snapshots.file_name()? != "snapshots" {
        return None;
    }
    names::repo_of_cache_folder(snapshots.parent()?.file_name()?.to_str()?)
}

/// Snapshot folders, best first.
fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let dir = folder.join("snapshots");
    let Ok(entries) = fs::read_dir(&dir) else { return Vec::new() };
    // A revision is 40 hexadecimal digits; anything longer is no revision and is not read.
    let main = fs::read_to_string(folder.join("refs").join("main")).ok().filter(|main| main.len() <= 64);
    let main = main.as_deref().map(str::trim).unwrap_or_default();
    let mut all: Vec<(bool, SystemTime, PathBuf)> = entries
        .flatten()
        .map(|entry| {
            let modified = entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            (entry.file_name() == main, modified, entry.path())
        })
        .collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    all.into_iter().map(|(_, _, path)| path).collect()
}

/// GGUF files at any depth; a checkpoint only at the top, because below it are other forms of the same model.
fn snapshot_weights(snapshot: &Path, links: Links<'_>) -> Vec<Weights> {
    walk::walk(snapshot, links)
        .iter()
        .flat_map(|listing| {
            let top = listing.below_root.is_empty();
            folder::weights_in(listing).into_iter().filter(move |w| top || w.stem.is_some())
        })
        .collect()
}
