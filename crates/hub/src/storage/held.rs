//! What running programs hold: files that are open or mapped, and locks of downloads.
//!
//! Open and mapped files can be seen where the system has `/proc`; elsewhere locks and the age of a file have to do.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::paths::{FileId, file_id};

/// Who holds a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) pid: u32,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// Which files the programs of this user hold, as far as can be seen. This process is left out: what it holds, its own
/// pool knows better.
#[derive(Debug, Default)]
pub(crate) struct Held {
    files: HashMap<FileId, Holder>,
}

impl Held {
    /// Looks at all programs now.
    pub(crate) fn now() -> Self {
        let mut held = Self::default();
        let own = std::process::id();
        // Libraries are mapped by nearly every program; each is asked about once.
        let mut seen = HashSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if pid != own {
                held.look(&entry.path(), pid, &mut seen);
            }
        }
        held
    }

    /// Who holds this file.
    pub(crate) fn by(&self, meta: &fs::Metadata) -> Option<&Holder> {
        self.files.get(&file_id(meta))
    }

    fn look(&mut self, process: &Path, pid: u32, seen: &mut HashSet<String>) {
        let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
        let holder = Holder { name: name.trim().to_owned(), pid };
        for file in fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            // Follows the link to the file itself, also where it has no name any more.
            if let Some(meta) = fs::metadata(file.path()).ok().filter(fs::Metadata::is_file) {
                self.files.entry(file_id(&meta)).or_insert_with(|| holder.clone());
            }
        }
        // Address, rights, offset, device, inode, path: the weights of a running model have no descriptor.
        for line in fs::read_to_string(process.join("maps")).unwrap_or_default().lines() {
            let Some(path) = line.find('/').map(|at| &line[at..]) else { continue };
            if !seen.insert(path.to_owned()) {
                continue;
            }
            let inode = line.split_whitespace().nth(4).and_then(|inode| inode.parse::<u64>().ok());
            let Ok(meta) = fs::metadata(path) else { continue };
            if inode == Some(file_id(&meta).1) {
                self.files.entry(file_id(&meta)).or_insert_with(|| holder.clone());
            }
        }
    }
}

/// Whether a program holds this lock, as `filelock` and the system's `flock` take it. A lock that is not there is free.
pub(crate) fn is_locked(lock: &Path) -> bool {
    match File::open(lock) {
        // Dropping the file gives the lock back.
        Ok(file) => matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}
