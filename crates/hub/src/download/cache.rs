//! `RepoCache`: one repository's folder in the Hugging Face cache, laid out as `huggingface_hub` lays it out.
//!
//! ```text
//! models--author--name/blobs/<hash>                a file's content; `<hash>.incomplete` while it arrives
//!                     /snapshots/<commit>/<path>   a link to it
//!                     /refs/main                   the commit that `main` is
//! .locks/models--author--name/<hash>.lock          held by whoever writes the blob, Python included
//! ```
//!
//! Invariant: whatever has its final name is complete, checked and on the disk: contents, links and references are made
//! beside it and renamed into place, and the folder is synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use super::plan::{Plan, PlanFile};
use crate::remote::{BlobName, Commit, RepoId, Revision};

/// One repository's folder in the cache.
#[derive(Debug)]
pub(crate) struct RepoCache {
    layout: CacheRepo,
    root: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    /// The folder of `repo` in the cache folder `cache`. Nothing is created yet.
    pub(crate) fn new(cache: &Path, repo: &RepoId) -> Self {
        let named = Repo::new(repo.to_string(), RepoType::Model);
        let folder = named.folder_name();
        Self {
            root: cache.join(&folder),
            locks: cache.join(".locks").join(folder),
            layout: Cache::new(cache.to_owned()).repo(named),
        }
    }

    pub(crate) fn blob(&self, name: &BlobName) -> PathBuf {
        self.root.join("blobs").join(name.as_str())
    }

    pub(crate) fn partial(&self, name: &BlobName) -> PathBuf {
        self.root.join("blobs").join(format!("{name}.incomplete"))
    }

    pub(crate) fn lock(&self, name: &BlobName) -> PathBuf {
        self.locks.join(format!("{name}.lock"))
    }

    /// Creates the folders that a blob needs.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(self.root.join("blobs"))?;
        fs::create_dir_all(&self.locks)
    }

    /// Where a file of a commit is found.
    pub(crate) fn pointer(&self, commit: &Commit, file: &PlanFile) -> PathBuf {
        let snapshot = self.layout.pointer_path(commit.as_str());
        snapshot.join(file.path.as_str())
    }

    /// Whether the whole content of a file is here: among the blobs, or in its place on disks without links.
    pub(crate) fn has(&self, commit: &Commit, file: &PlanFile) -> bool {
        is_file_of(&self.blob(&file.blob), file.size) || is_file_of(&self.pointer(commit, file), file.size)
    }

    /// Bytes of a file that are here.
    pub(crate) fn present(&self, commit: &Commit, file: &PlanFile) -> u64 {
        if self.has(commit, file) {
            return file.size;
        }
        fs::metadata(self.partial(&file.blob)).map_or(0, |meta| meta.len().min(file.size))
    }

    /// Makes a blob a file of a snapshot.
    pub(crate) fn link(&self, commit: &Commit, file: &PlanFile) -> io::Result<()> {
        let (blob, pointer) = (self.blob(&file.blob), self.pointer(commit, file));
        let folders = file.path.as_str().matches('/').count();
        let target = Path::new(&"../".repeat(folders + 2)).join("blobs").join(file.blob.as_str());
        if fs::read_link(&pointer).is_ok_and(|present| present == target) {
            return Ok(());
        }
        if !blob.is_file() && is_file_of(&pointer, file.size) {
            return Ok(());
        }
        let dir = parent(&pointer)?;
        fs::create_dir_all(dir)?;
        let fresh = dir.join(temporary_name());
        match symlink(&target, &fresh) {
            Ok(()) => fs::rename(&fresh, &pointer).inspect_err(|_| drop(fs::remove_file(&fresh)))?,
            // A disk without links (exFAT): the content itself goes there, as `huggingface_hub` does it.
            Err(error) if no_links(&error) => fs::rename(&blob, &pointer)?,
            Err(error) => return Err(error),
        }
        sync_dir(dir)
    }

    /// Puts a finished plan's files into its snapshot, with whatever else of that commit is here, and points the branch to
    /// it. The branch comes last: until then what it pointed to before is what counts.
    pub(crate) fn publish(&self, plan: &Plan) -> io::Result<()> {
        for file in &plan.files {
            self.link(&plan.commit, file)?;
        }
        for file in plan.others.iter().filter(|file| is_file_of(&self.blob(&file.blob), file.size)) {
            self.link(&plan.commit, file)?;
        }
        self.set_ref(&plan.revision, &plan.commit)
    }

    fn set_ref(&self, revision: &Revision, commit: &Commit) -> io::Result<()> {
        if revision.as_str() == commit.as_str() {
            return Ok(());
        }
        write_whole(&self.root.join("refs").join(revision.as_str()), commit.as_str().as_bytes())
    }
}

/// Writes a small file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = parent(path)?;
    fs::create_dir_all(dir)?;
    let fresh = dir.join(temporary_name());
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        sync_dir(dir)
    };
    write().inspect_err(|_| drop(fs::remove_file(&fresh)))
}

/// Makes what was renamed in a folder last.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn is_file_of(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == size)
}

fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no folder"))
}

fn temporary_name() -> String {
    format!(".perch-{}-{:08x}", std::process::id(), rand::random::<u32>())
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(not(unix))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

fn no_links(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::RepoPath;

    fn plan(commit: char, files: &[(&str, &str)], others: &[(&str, &str)]) -> Plan {
        let file = |(path, content): &(&str, &str)| PlanFile {
            path: RepoPath::new(path).unwrap(),
            size: content.len() as u64,
            blob: BlobName::new(&format!("{:0>40}", content)).unwrap(),
        };
        Plan {
            repo: RepoId::new("o/m").unwrap(),
            revision: Revision::default(),
            commit: Commit::new(&commit.to_string().repeat(40)).unwrap(),
            model: "o/m".into(),
            quantization: None,
            files: files.iter().map(file).collect(),
            others: others.iter().map(file).collect(),
        }
    }

    #[test]
    fn a_branch_that_moves_on_keeps_what_was_downloaded_and_has_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(dir.path(), &RepoId::new("o/m").unwrap());
        cache.prepare().unwrap();
        let first = plan('a', &[("sub/q4.gguf", "44")], &[]);
        fs::write(cache.blob(&first.files[0].blob), "44").unwrap();
        cache.publish(&first).unwrap();
        let second = plan('b', &[("q8.gguf", "88")], &[("sub/q4.gguf", "44"), ("q2.gguf", "22")]);
        fs::write(cache.blob(&second.files[0].blob), "88").unwrap();
        cache.publish(&second).unwrap();
        cache.publish(&second).unwrap();
        let snapshot = dir.path().join("models--o--m/snapshots").join("b".repeat(40));
        assert_eq!(fs::read_to_string(snapshot.join("sub/q4.gguf")).unwrap(), "44");
        assert_eq!(fs::read_to_string(snapshot.join("q8.gguf")).unwrap(), "88");
        assert!(!snapshot.join("q2.gguf").exists());
        let main = fs::read_to_string(dir.path().join("models--o--m/refs/main")).unwrap();
        assert_eq!(main, "b".repeat(40));
        let leftovers = fs::read_dir(&snapshot).unwrap().flatten();
        assert!(!leftovers.map(|e| e.file_name()).any(|name| name.to_string_lossy().starts_with(".perch")));
    }
}
