//! Paths and what is behind them: links followed step by step, identities of files, free space.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Links that are followed in a row; the systems' own limit is 32 to 40.
const MAX_HOPS: usize = 32;

/// Which bytes a path means: device and inode.
pub(crate) type FileId = (u64, u64);

/// Device and inode of a file's metadata.
pub(crate) fn file_id(meta: &fs::Metadata) -> FileId {
    (meta.dev(), meta.ino())
}

/// The entry that `path` names, with its folder's links followed and its own not.
pub(crate) fn real_entry(path: &Path) -> Option<PathBuf> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(parent.canonicalize().ok()?.join(path.file_name()?))
}

/// Every entry on the way from `path` to the bytes: the path itself, each link's target, the file or folder at the end.
/// Links among the folders on the way are entries, too. Ends early where something is not there.
pub(crate) fn hops(path: &Path) -> Vec<PathBuf> {
    let mut hops = Vec::new();
    for ancestor in path.ancestors().skip(1) {
        if fs::symlink_metadata(ancestor).is_ok_and(|meta| meta.is_symlink()) {
            follow(ancestor, &mut hops);
        }
    }
    follow(path, &mut hops);
    hops
}

fn follow(path: &Path, hops: &mut Vec<PathBuf>) {
    let Some(mut at) = real_entry(path) else { return };
    for _ in 0..MAX_HOPS {
        let link = fs::read_link(&at).ok();
        let folder = at.parent().map(Path::to_owned).unwrap_or_default();
        hops.push(at);
        let Some(next) = link.and_then(|link| real_entry(&folder.join(link))) else { return };
        at = next;
    }
}

/// The files below `root`, links not followed, with their metadata. Nothing that cannot be read.
pub(crate) fn tree(root: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            match meta.is_dir() {
                true => folders.push(entry.path()),
                false => found.push((entry.path(), meta)),
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// The folders below `root`, deepest first, `root` last. Links are no folders.
pub(crate) fn folders(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut at = 0;
    while at < found.len() {
        let entries = fs::read_dir(&found[at]).into_iter().flatten().flatten();
        let inner =
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path());
        found.extend(inner.collect::<Vec<_>>());
        at += 1;
    }
    found.reverse();
    found
}

/// Bytes of disk that come free when these entries are removed: those of files whose every name is among them.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    names: HashMap<FileId, u64>,
}

impl Freed {
    /// Bytes that come free with this entry, given all that were asked about before.
    pub(crate) fn by(&mut self, meta: &fs::Metadata) -> u64 {
        if !meta.is_file() {
            return 0;
        }
        let names = self.names.entry(file_id(meta)).or_default();
        *names += 1;
        if *names == meta.nlink() { meta.len() } else { 0 }
    }
}

/// Free bytes and all bytes of the disk that `path`, or the nearest folder above it that exists, lies on.
pub fn disk_space(path: &Path) -> Option<(u64, u64)> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    let block = disk.f_frsize;
    Some((disk.f_bavail.saturating_mul(block), disk.f_blocks.saturating_mul(block)))
}
