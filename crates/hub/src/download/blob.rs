//! `Partial`: a blob that is being written. Locked, appended to, hashed as it grows, and renamed when it is right.
//!
//! Invariants: only the holder of the lock writes, in this process or another; the file is always a beginning of the
//! content, never more; it gets its final name only with the right size and hash, and after it was synced.
//! Everything here blocks.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::cache::{RepoCache, sync_dir};
use super::plan::PlanFile;
use crate::remote::{BlobName, Commit};

/// Bytes hashed at once when a beginning is read again.
const READ: usize = 1 << 20;

/// What is found where a blob is to be.
pub(crate) enum Opened {
    /// It is complete.
    There,
    /// Somebody else is writing it.
    Busy,
    /// It is ours to write.
    Partial(Box<Partial>),
}

/// A blob that is being written.
pub(crate) struct Partial {
    file: File,
    hasher: Hasher,
    len: u64,
    size: u64,
    blob: BlobName,
    path: PathBuf,
    target: PathBuf,
    /// Released when dropped.
    _lock: File,
}

/// Why a blob was not finished.
#[derive(Debug)]
pub(crate) enum Unfinished {
    /// Its content is not what its name says. It is deleted.
    Wrong,
    /// The disk refused.
    Io(io::Error),
}

impl From<io::Error> for Unfinished {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Partial {
    /// Takes the lock and reads what is there already. `stop` ends the reading.
    pub(crate) fn open(
        cache: &RepoCache,
        commit: &Commit,
        file: &PlanFile,
        stop: &CancellationToken,
    ) -> io::Result<Opened> {
        if cache.has(commit, file) {
            return Ok(Opened::There);
        }
        cache.prepare()?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(cache.lock(&file.blob))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Opened::Busy),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had the lock may have finished meanwhile.
        if cache.has(commit, file) {
            return Ok(Opened::There);
        }
        let path = cache.partial(&file.blob);
        let mut content =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        if content.metadata()?.len() > file.size {
            content.set_len(0)?;
        }
        let mut hasher = Hasher::new(&file.blob, file.size);
        let len = hasher.read(&mut content, stop)?;
        Ok(Opened::Partial(Box::new(Self {
            file: content,
            hasher,
            len,
            size: file.size,
            blob: file.blob.clone(),
            target: cache.blob(&file.blob),
            path,
            _lock: lock,
        })))
    }

    /// Bytes that are there.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::new(&self.blob, self.size);
        self.len = 0;
        Ok(())
    }

    /// Checks it, makes it last and gives it its name. Wrong content is deleted.
    pub(crate) fn finish(self) -> Result<(), Unfinished> {
        if self.len != self.size || self.hasher.hex() != self.blob.as_str() {
            fs::remove_file(&self.path)?;
            return Err(Unfinished::Wrong);
        }
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        if let Some(dir) = self.target.parent() {
            sync_dir(dir)?;
        }
        Ok(())
    }
}

/// Deletes what has arrived of a blob; `false` if somebody is writing it.
pub(crate) fn discard(cache: &RepoCache, blob: &BlobName) -> io::Result<bool> {
    let path = cache.partial(blob);
    if !path.exists() {
        return Ok(true);
    }
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(cache.lock(blob))?;
    match lock.try_lock() {
        Ok(()) => fs::remove_file(path).map(|()| true),
        Err(_) => Ok(false),
    }
}

/// The hash that a blob is named by.
enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    fn new(blob: &BlobName, size: u64) -> Self {
        match blob {
            BlobName::Sha256(_) => Self::Sha256(Sha256::new()),
            // Git hashes kind and size before the content.
            BlobName::Git(_) => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    /// Hashes a file to its end, where it then stands.
    fn read(&mut self, file: &mut File, stop: &CancellationToken) -> io::Result<u64> {
        let (mut buffer, mut len) = (Vec::new(), 0);
        loop {
            buffer.resize(READ, 0);
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(len);
            }
            if stop.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.update(&buffer[..count]);
            len += count as u64;
        }
    }

    fn hex(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Sha256(hasher) => hex(&hasher.clone().finalize()),
            Self::Git(hasher) => hex(&hasher.clone().finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::{RepoId, RepoPath};

    /// `printf hello | git hash-object --stdin` and `printf hello | sha256sum`.
    const GIT: &str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
    const SHA: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn file(blob: &str) -> PlanFile {
        PlanFile { path: RepoPath::new("f").unwrap(), size: 5, blob: BlobName::new(blob).unwrap() }
    }

    fn open(cache: &RepoCache, file: &PlanFile) -> Opened {
        let commit = Commit::new(&"0".repeat(40)).unwrap();
        Partial::open(cache, &commit, file, &CancellationToken::new()).unwrap()
    }

    fn partial(cache: &RepoCache, file: &PlanFile) -> Partial {
        match open(cache, file) {
            Opened::Partial(partial) => *partial,
            _ => panic!("it is not ours to write"),
        }
    }

    #[test]
    fn content_that_arrives_in_pieces_over_several_lives_is_checked_whole() {
        for name in [GIT, SHA] {
            let dir = tempfile::tempdir().unwrap();
            let cache = RepoCache::new(dir.path(), &RepoId::new("o/m").unwrap());
            let file = file(name);
            partial(&cache, &file).write(b"he").unwrap();
            let mut again = partial(&cache, &file);
            assert_eq!(again.len(), 2);
            assert!(matches!(open(&cache, &file), Opened::Busy), "one writer at a time");
            again.write(b"llo").unwrap();
            again.finish().unwrap();
            assert!(matches!(open(&cache, &file), Opened::There));
            assert_eq!(fs::read(cache.blob(&file.blob)).unwrap(), b"hello");
            assert!(!cache.partial(&file.blob).exists());
        }
    }

    #[test]
    fn wrong_content_is_deleted_and_never_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(dir.path(), &RepoId::new("o/m").unwrap());
        for content in [&b"hallo"[..], b"hell"] {
            let mut partial = partial(&cache, &file(SHA));
            partial.write(content).unwrap();
            assert!(matches!(partial.finish(), Err(Unfinished::Wrong)));
            assert!(!cache.blob(&file(SHA).blob).exists() && !cache.partial(&file(SHA).blob).exists());
        }
    }

    #[test]
    fn a_beginning_that_is_longer_than_the_whole_is_thrown_away() {
        let dir = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(dir.path(), &RepoId::new("o/m").unwrap());
        partial(&cache, &file(SHA)).write(b"too long").unwrap();
        assert_eq!(partial(&cache, &file(SHA)).len(), 0);
    }
}
