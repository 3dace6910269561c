//! `MappedFile`: one file of a checkpoint, mapped read-only into memory.
//!
//! Weights are used in place from the page cache: loading is instant, memory is shared between processes, and the
//! system can drop pages without writing them anywhere. The price is that a file which somebody *truncates in place*
//! while it is mapped turns the next touch of its lost pages into SIGBUS, which ends the process. That choice is
//! deliberate: the alternatives (a heap copy of every weight, or a read per use) cost every user memory or speed on
//! every run, while download tools, package managers and editors replace files by rename, which leaves the mapped file
//! whole. The `hub` crate does the same: a file that is not complete never bears its final name.
//!
//! Invariant: `bytes()` has the length that the file had when it was opened; every range that leaves this crate was
//! checked against it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::ModelError;

/// A read-only mapping and the path that it came from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MappedFile {
    path: Arc<Path>,
    map: Arc<Mmap>,
}

impl MappedFile {
    /// Maps the regular file at `path`. Anything else (a folder, a pipe that would block) is refused unopened.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let kind = std::fs::metadata(path).map_err(io)?;
        let invalid =
            |reason: &str| ModelError::InvalidFile { path: path.to_owned(), reason: reason.to_owned() };
        if !kind.is_file() {
            return Err(invalid("is not a regular file"));
        }
        if kind.len() == 0 {
            return Err(invalid("the file is empty"));
        }
        let file = File::open(path).map_err(io)?;
        // SAFETY: the mapping is private and read-only, and no reference to it outlives the `Arc`. Another process may
        // still change the file; the head of this file says why that is accepted.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path: path.into(), map: Arc::new(map) })
    }

    /// The same for bytes that lie in no file: tests, and checkpoints made in memory.
    pub(crate) fn from_bytes(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self, ModelError> {
        let path: PathBuf = path.into();
        let io = |source| ModelError::Io { path: path.clone(), source };
        // A mapping cannot be empty; one byte more keeps the reader's own "too short" errors reachable.
        let mut map = MmapMut::map_anon(bytes.len().max(1)).map_err(io)?;
        map[..bytes.len()].copy_from_slice(bytes);
        let map = map.make_read_only().map_err(io)?;
        Ok(Self { path: path.into(), map: Arc::new(map) })
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Asks the system to read all of it ahead. Advice only: a system that cannot take it reads on demand.
    pub(crate) fn prefetch(&self) {
        #[cfg(unix)]
        let _ = self.map.advise(memmap2::Advice::WillNeed);
    }

    /// The mapping, to be shared with the tensors that lie in it.
    pub(crate) fn map(&self) -> &Arc<Mmap> {
        &self.map
    }

    /// Where the file lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The error for a file whose content is wrong.
    pub(crate) fn invalid(&self, reason: impl Into<String>) -> ModelError {
        ModelError::InvalidFile { path: self.path.to_path_buf(), reason: reason.into() }
    }
}
