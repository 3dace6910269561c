//! Looking through a folder tree: what lies in it, within bounds.
//!
//! Symlinks are followed, but each real folder is entered once, never deeper than [`MAX_DEPTH`], and a tree of more
//! than [`MAX_ENTRIES`] is cut off with a warning. Only regular files come back, so a pipe or a device named
//! `x.gguf` is never opened. Names that are not safe are passed over.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::names;

/// Levels of folders below the root. `publisher/repo/quantisation` is three.
const MAX_DEPTH: usize = 4;
/// Entries looked at below one root.
const MAX_ENTRIES: usize = 100_000;
/// The files that a model is made of.
const EXTENSIONS: [&str; 3] = ["gguf", "safetensors", "json"];

/// One folder and the files in it that may belong to a model, sorted by name.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) dir: PathBuf,
    /// Names of the folders between the root and this one.
    pub(crate) below_root: Vec<String>,
    pub(crate) files: Vec<String>,
}

impl Listing {
    pub(crate) fn has(&self, file: &str) -> bool {
        self.files.binary_search_by(|f| f.as_str().cmp(file)).is_ok()
    }
}

/// Where symlinks may lead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Links<'a> {
    /// Anywhere: the folder is the user's own.
    Anywhere,
    /// Only to places inside these folders (canonical paths): the folder was filled by a download.
    Within(&'a [PathBuf]),
}

impl Links<'_> {
    /// The canonical path, if it exists and may be read.
    fn follow(&self, path: &Path) -> Option<PathBuf> {
        let real = path.canonicalize().ok()?;
        match self {
            Links::Anywhere => Some(real),
            Links::Within(roots) => roots.iter().any(|root| real.starts_with(root)).then_some(real),
        }
    }
}

/// Every folder from `root` down, the root first, then by name. Hidden folders are not entered, but may be the root.
pub(crate) fn walk(root: &Path, links: Links<'_>) -> Vec<Listing> {
    let mut walk = Walk { links, seen: HashSet::new(), entries: 0, listings: Vec::new() };
    walk.enter(root.to_path_buf(), Vec::new());
    if walk.entries > MAX_ENTRIES {
        tracing::warn!(root = %root.display(), "more than {MAX_ENTRIES} entries: the rest is not looked at");
    }
    walk.listings
}

/// The files of one folder alone.
pub(crate) fn list(dir: &Path) -> Option<Listing> {
    let mut walk = Walk { links: Links::Anywhere, seen: HashSet::new(), entries: 0, listings: Vec::new() };
    let mut listing = Listing { dir: dir.to_path_buf(), below_root: Vec::new(), files: Vec::new() };
    walk.read(&mut listing)?;
    Some(listing)
}

struct Walk<'a> {
    links: Links<'a>,
    seen: HashSet<PathBuf>,
    entries: usize,
    listings: Vec<Listing>,
}

impl Walk<'_> {
    fn enter(&mut self, dir: PathBuf, below_root: Vec<String>) {
        if !self.links.follow(&dir).is_some_and(|real| self.seen.insert(real)) {
            return;
        }
        let depth = below_root.len();
        let mut listing = Listing { dir, below_root, files: Vec::new() };
        let Some(dirs) = self.read(&mut listing) else { return };
        let (dir, below_root) = (listing.dir.clone(), listing.below_root.clone());
        self.listings.push(listing);
        if depth == MAX_DEPTH {
            return;
        }
        for name in dirs {
            let mut below = below_root.clone();
            below.push(name.clone());
            self.enter(dir.join(name), below);
        }
    }

    /// Fills in the files of a listing and returns the names of its folders, sorted.
    fn read(&mut self, listing: &mut Listing) -> Option<Vec<String>> {
        let entries = match fs::read_dir(&listing.dir) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::debug!(dir = %listing.dir.display(), %error, "a models folder cannot be read");
                return None;
            }
        };
        let mut dirs = Vec::new();
        for entry in entries.flatten() {
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                break;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| names::is_safe(name)) else { continue };
            let path = entry.path();
            // `metadata` follows the link, so that a dangling one is as if it were not there.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_dir() {
                dirs.push(name.to_string());
            } else if meta.is_file() && is_of_a_model(name) && self.links.follow(&path).is_some() {
                listing.files.push(name.to_string());
            }
        }
        listing.files.sort_unstable();
        dirs.sort_unstable();
        Some(dirs)
    }
}

/// Whether a file's name says that it may belong to a model.
pub(crate) fn is_of_a_model(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, ext)| EXTENSIONS.iter().any(|e| ext.eq_ignore_ascii_case(e)))
}
