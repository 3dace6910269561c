//! `MappedFile`: one file of a checkpoint, mapped read-only into memory, or a model that is part of the program.
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
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::ModelError;

/// Bytes that are used where they lie. Cheap to clone.
#[derive(Clone)]
pub(crate) enum InPlace {
    /// In a mapping.
    Mapped(Arc<Mmap>),
    /// In the program itself.
    Static(&'static [u8]),
}

impl Deref for InPlace {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for InPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if matches!(self, Self::Mapped(_)) { "mapped" } else { "static" };
        write!(f, "{} {kind} bytes", self.len())
    }
}

/// A file's bytes and the path that they came from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct MappedFile {
    path: Arc<Path>,
    bytes: InPlace,
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
        Ok(Self { path: path.into(), bytes: InPlace::Mapped(Arc::new(map)) })
    }

    /// The same for bytes of the program, without a copy. `name` stands for the path in errors.
    pub(crate) fn from_static(name: &str, bytes: &'static [u8]) -> Self {
        Self { path: Path::new(name).into(), bytes: InPlace::Static(bytes) }
    }

    /// The same for bytes that lie in no file: tests, and checkpoints made in memory.
    pub(crate) fn from_bytes(path: impl Into<PathBuf>, bytes: &[u8]) -> Result<Self, ModelError> {
        let path: PathBuf = path.into();
        let io = |source| ModelError::Io { path: path.clone(), source };
        // A mapping cannot be empty; one byte more keeps the reader's own "too short" errors reachable.
        let mut map = MmapMut::map_anon(bytes.len().max(1)).map_err(io)?;
        map[..bytes.len()].copy_from_slice(bytes);
        let map = map.make_read_only().map_err(io)?;
        Ok(Self { path: path.into(), bytes: InPlace::Mapped(Arc::new(map)) })
    }

    /// All bytes of the file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Asks the system to read all of it ahead. Advice only: a system that cannot take it reads on demand.
    pub(crate) fn prefetch(&self) {
        #[cfg(unix)]
        if let InPlace::Mapped(map) = &self.bytes {
            let _ = map.advise(memmap2::Advice::WillNeed);
        }
    }

    /// Its bytes, to be shared with the tensors that lie in them.
    pub(crate) fn in_place(&self) -> &InPlace {
        &self.bytes
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
