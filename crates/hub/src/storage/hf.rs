//! The Hugging Face cache file by file: which revision refers to which blob, as `huggingface_hub` counts it.
//!
//! A repository is a folder `models--org--name` with `refs`, `snapshots/<revision>` and `blobs`. An entry of a snapshot
//! is a link to a blob of its repository, or a file of its own. A blob may itself be a link into the cache's shared
//! store, `blobs/<two digits>/<hash>`, which all its repositories share.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};

use super::paths;

/// What a repository's folder begins with.
const KINDS: [&str; 4] = ["models--", "datasets--", "spaces--", "kernels--"];
/// What marks the shared store as one.
const SHARED_MARKER: &str = ".huggingface-shared-blobs";

/// A file of a revision.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// In the snapshot.
    pub(super) path: PathBuf,
    /// Where its link leads, one step; the entry itself where it is no link.
    pub(super) blob: PathBuf,
}

impl Entry {
    /// The bytes behind it, if they are there.
    pub(super) fn meta(&self) -> Option<Metadata> {
        fs::metadata(&self.blob).ok()
    }
}

/// One snapshot of a repository.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) dir: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// The files under `refs` that name it.
    pub(super) refs: Vec<PathBuf>,
}

/// One repository of the cache.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    pub(super) root: PathBuf,
    pub(super) revisions: Vec<Revision>,
    /// Files under `refs` that name a revision which is not there.
    pub(super) dangling: Vec<PathBuf>,
}

/// All repositories of the cache at `hub`, models and others, by name.
pub(super) fn repos(hub: &Path) -> Vec<Repo> {
    let entries = fs::read_dir(hub).into_iter().flatten().flatten();
    let mut roots: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_repo(path)).collect();
    roots.sort_unstable();
    roots.iter().map(|root| Repo::read(root)).collect()
}

fn is_repo(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    KINDS.iter().any(|kind| name.starts_with(kind)) && path.is_dir()
}

impl Repo {
    /// Reads what lies in a repository's folder.
    pub(super) fn read(root: &Path) -> Self {
        let dirs = fs::read_dir(root.join("snapshots")).into_iter().flatten().flatten();
        let mut dirs: Vec<PathBuf> = dirs.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        dirs.sort_unstable();
        let mut revisions: Vec<Revision> = dirs.into_iter().map(Revision::read).collect();
        let mut dangling = Vec::new();
        for (path, _) in paths::tree(&root.join("refs")) {
            // A revision is 40 hexadecimal digits; no file of refs is long.
            let Ok(named) = fs::read_to_string(&path) else { continue };
            match revisions
                .iter_mut()
                .find(|revision| revision.dir.file_name().is_some_and(|dir| dir == named.trim()))
            {
                Some(revision) => revision.refs.push(path),
                None => dangling.push(path),
            }
        }
        Self { root: root.to_owned(), revisions, dangling }
    }

    /// The blobs that revisions other than those in `without` refer to.
    pub(super) fn referenced(&self, without: &[PathBuf]) -> HashSet<&Path> {
        let others = self.revisions.iter().filter(|revision| !without.contains(&revision.dir));
        others.flat_map(|revision| &revision.entries).map(|entry| entry.blob.as_path()).collect()
    }

    /// Blobs that no revision refers to, downloads under way not counted.
    pub(super) fn orphans(&self) -> Vec<(PathBuf, Metadata)> {
        let referenced = self.referenced(&[]);
        let blobs = paths::tree(&self.root.join("blobs")).into_iter();
        blobs.filter(|(path, _)| !referenced.contains(path.as_path()) && !is_partial(path)).collect()
    }

    /// Downloads that were begun and not finished.
    pub(super) fn partials(&self) -> Vec<(PathBuf, Metadata)> {
        paths::tree(&self.root.join("blobs")).into_iter().filter(|(path, _)| is_partial(path)).collect()
    }

    /// The file that a program locks while it downloads or links `blob`.
    pub(super) fn lock(&self, blob: &Path) -> Option<PathBuf> {
        let name = blob.file_name()?.to_str()?;
        // `<etag>`, `<etag>.incomplete` or `<etag>.<random>.incomplete`.
        let etag = name.split('.').next()?;
        let hub = self.root.parent()?;
        Some(hub.join(".locks").join(self.root.file_name()?).join(format!("{etag}.lock")))
    }
}

impl Revision {
    fn read(dir: PathBuf) -> Self {
        let entries = paths::tree(&dir).into_iter().map(|(path, meta)| {
            let blob = match meta.is_symlink().then(|| fs::read_link(&path).ok()).flatten() {
                Some(link) => plain(&path.parent().unwrap_or(&dir).join(link)),
                None => path.clone(),
            };
            Entry { path, blob }
        });
        Self { entries: entries.collect(), dir, refs: Vec::new() }
    }
}

/// The path without `.` and `..`, links not looked at: how `huggingface_hub` compares blobs.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// Whether a blob is a download that is not finished: of `huggingface_hub` or of Perch.
pub(super) fn is_partial(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.contains(".incomplete") || name.ends_with(".part") || name.ends_with(".partial")
}

/// The shared store of a cache, if it has one.
pub(super) fn shared_store(hub: &Path) -> Option<PathBuf> {
    let store = hub.join("blobs");
    fs::symlink_metadata(store.join(SHARED_MARKER)).is_ok_and(|meta| meta.is_file()).then_some(store)
}

/// Payloads of the shared store that no repository's blob leads to.
pub(super) fn unshared(hub: &Path, repos: &[Repo]) -> Vec<(PathBuf, Metadata)> {
    let Some(store) = shared_store(hub) else { return Vec::new() };
    let targets: HashSet<PathBuf> = repos
        .iter()
        .flat_map(|repo| paths::tree(&repo.root.join("blobs")))
        .filter(|(_, meta)| meta.is_symlink())
        .filter_map(|(path, _)| path.canonicalize().ok())
        .collect();
    let payload = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let unused = |(path, meta): &(PathBuf, Metadata)| {
        meta.is_file() && payload(path) && path.canonicalize().is_ok_and(|real| !targets.contains(&real))
    };
    paths::tree(&store).into_iter().filter(unused).collect()
}
