//! Cleaning up: what lies about that no model, no revision and no program needs.
//!
//! Another program may be at work in the same folders at any time. So whatever is locked, open, mapped or too new stays,
//! and so does a link whose disk may merely not be connected.

use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::held::{self, Held};
use super::hf::{self, Repo};
use super::plan::Plan;
use super::{ItemKind, Removal, Storage, paths};
use crate::hf_cache;
use crate::import;
use crate::stores::{self, StoreKind};

/// A blob is written before anything refers to it; the time between is short.
const GRACE: Duration = Duration::from_secs(600);

/// What to clean up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanupOptions {
    /// Only these kinds; `None` means all.
    pub kinds: Option<Vec<ItemKind>>,
    /// Unfinished downloads and imports, and revisions without a name, must not have been written to for so long. Less
    /// than ten minutes counts as ten.
    pub older_than: Duration,
}

impl Default for CleanupOptions {
    fn default() -> Self {
        Self { kinds: None, older_than: Duration::from_secs(86_400) }
    }
}

/// A clean-up in the making.
struct Sweep<'a> {
    plan: Plan<'a>,
    options: &'a CleanupOptions,
    held: Held,
    now: SystemTime,
}

impl Storage {
    /// What a clean-up would remove now. Blocks.
    pub fn plan_cleanup(&self, options: &CleanupOptions) -> Removal {
        let protected = self.all_protected();
        let plan = Plan::new("", &protected);
        let mut sweep = Sweep { plan, options, held: Held::now(), now: SystemTime::now() };
        for store in self.stores.iter() {
            match store.kind {
                StoreKind::HuggingFace => sweep.cache(&store.root),
                StoreKind::Perch => sweep.own(&store.root),
                StoreKind::Ollama => sweep.ollama(&store.root),
                StoreKind::ModelsDir | StoreKind::LmStudio | StoreKind::Elsewhere => {}
            }
        }
        sweep.plan.removal
    }

    /// Removes what a clean-up would remove now. Blocks.
    pub fn cleanup(&self, options: &CleanupOptions) -> Removal {
        let plan = self.plan_cleanup(options);
        self.carry_out(plan, &self.all_protected())
    }
}

impl Sweep<'_> {
    fn wants(&self, kind: ItemKind) -> bool {
        self.options.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }

    /// How long nobody has written to it.
    fn age(&self, meta: &Metadata) -> Duration {
        meta.modified().ok().and_then(|at| self.now.duration_since(at).ok()).unwrap_or_default()
    }

    fn patience(&self) -> Duration {
        self.options.older_than.max(GRACE)
    }

    /// Lists a file that was not written to for `age`, unless a program has it or its lock.
    fn take(
        &mut self,
        kind: ItemKind,
        (path, meta): &(PathBuf, Metadata),
        lock: Option<PathBuf>,
        reason: &str,
    ) -> bool {
        let least = if matches!(kind, ItemKind::OrphanedBlob | ItemKind::BrokenLink) {
            GRACE
        } else {
            self.patience()
        };
        if let Some(holder) = self.held.by(meta).filter(|_| meta.is_file()) {
            self.plan.removal.keep(path, format!("{holder} is using it"));
        } else if lock.is_some_and(|lock| held::is_locked(&lock)) {
            self.plan.removal.keep(path, "a program is downloading it");
        } else if self.age(meta) < least {
            self.plan.removal.keep(path, "it was written to a short time ago");
        } else {
            return self.plan.take(kind, path, reason);
        }
        false
    }

    /// The Hugging Face cache.
    fn cache(&mut self, hub: &Path) {
        let repos = hf::repos(hub);
        for repo in &repos {
            let mut gone = HashSet::new();
            if self.wants(ItemKind::UnreferencedSnapshot) {
                self.snapshots(repo, &mut gone);
            }
            if self.wants(ItemKind::OrphanedBlob) {
                for blob in repo.orphans() {
                    self.take(ItemKind::OrphanedBlob, &blob, repo.lock(&blob.0), "no revision refers to it");
                }
            }
            if self.wants(ItemKind::PartialDownload) {
                for partial in repo.partials() {
                    let lock = repo.lock(&partial.0);
                    self.take(
                        ItemKind::PartialDownload,
                        &partial,
                        lock,
                        "a download that was never finished",
                    );
                }
            }
            if self.wants(ItemKind::BrokenLink) {
                self.dangling(repo, &gone);
            }
        }
        if self.wants(ItemKind::OrphanedBlob) {
            for payload in hf::unshared(hub, &repos) {
                let lock = payload.0.with_extension("lock");
                self.take(ItemKind::OrphanedBlob, &payload, Some(lock), "no repository refers to it");
            }
        }
    }

    /// Revisions that no branch or tag names, but the one that the library lists.
    fn snapshots(&mut self, repo: &Repo, gone: &mut HashSet<PathBuf>) {
        let listed: Vec<PathBuf> =
            hf_cache::repo_models(&repo.root).into_iter().map(|model| model.weights.path).collect();
        for revision in repo.revisions.iter().filter(|revision| revision.refs.is_empty()) {
            let is_listed = listed.iter().any(|path| path.starts_with(&revision.dir));
            let newest = fs::metadata(&revision.dir)
                .into_iter()
                .chain(revision.entries.iter().filter_map(|entry| fs::symlink_metadata(&entry.path).ok()));
            let age = newest.map(|meta| self.age(&meta)).min().unwrap_or_default();
            if is_listed || age < self.patience() {
                continue;
            }
            gone.insert(revision.dir.clone());
            let dirs: Vec<PathBuf> = gone.iter().cloned().collect();
            let shared = repo.referenced(&dirs);
            for entry in &revision.entries {
                // Asked of the bytes, not of the link: a program may have them open.
                let holder = entry.meta().and_then(|meta| self.held.by(&meta).cloned());
                if let Some(holder) = holder {
                    self.plan.removal.keep(&entry.path, format!("{holder} is using it"));
                    continue;
                }
                let goes = self.plan.take(
                    ItemKind::UnreferencedSnapshot,
                    &entry.path,
                    "no branch or tag names its revision",
                );
                let alone = entry.blob != entry.path && !shared.contains(entry.blob.as_path());
                if goes && alone && entry.blob.starts_with(repo.root.join("blobs")) {
                    let locked = repo.lock(&entry.blob).is_some_and(|lock| held::is_locked(&lock));
                    if !locked {
                        self.plan.take(
                            ItemKind::OrphanedBlob,
                            &entry.blob,
                            "only revisions without a name refer to it",
                        );
                    }
                }
            }
            for folder in paths::folders(&revision.dir) {
                self.plan.take_folder(&folder);
            }
        }
    }

    /// Entries whose blob is not there, and names of revisions that are not.
    fn dangling(&mut self, repo: &Repo, gone: &HashSet<PathBuf>) {
        for revision in repo.revisions.iter().filter(|revision| !gone.contains(&revision.dir)) {
            for entry in revision.entries.iter().filter(|entry| entry.meta().is_none()) {
                let Ok(meta) = fs::symlink_metadata(&entry.path) else { continue };
                let found = (entry.path.clone(), meta);
                self.take(
                    ItemKind::BrokenLink,
                    &found,
                    repo.lock(&entry.blob),
                    "the file it leads to is not there",
                );
            }
        }
        for name in &repo.dangling {
            let Ok(meta) = fs::symlink_metadata(name) else { continue };
            if self.age(&meta) >= self.patience() {
                let found = (name.clone(), meta);
                self.take(ItemKind::BrokenLink, &found, None, "the revision it names is not there");
            }
        }
    }

    /// Perch's own folder.
    fn own(&mut self, root: &Path) {
        for (path, meta) in paths::tree(root) {
            let staged = path
                .strip_prefix(root)
                .ok()
                .and_then(|below| below.iter().next())
                .is_some_and(import::is_staging);
            if staged && self.wants(ItemKind::AbandonedImport) {
                self.take(
                    ItemKind::AbandonedImport,
                    &(path, meta),
                    None,
                    "an import that was never finished",
                );
            } else if meta.is_symlink() && !path.exists() && self.wants(ItemKind::BrokenLink) {
                match fs::read_link(&path).ok().filter(|target| away(target)) {
                    Some(target) => {
                        let reason = format!("the disk of {} may not be connected", target.display());
                        self.plan.removal.keep(&path, reason);
                    }
                    None => {
                        self.take(
                            ItemKind::BrokenLink,
                            &(path, meta),
                            None,
                            "the file it leads to is not there",
                        );
                    }
                }
            }
        }
        for folder in paths::folders(root).iter().filter(|folder| folder.as_path() != root) {
            let occupied = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
            if occupied {
                self.plan.take_folder(folder);
            }
        }
    }

    /// Blobs of Ollama's that no manifest names, and its downloads that were not finished.
    fn ollama(&mut self, root: &Path) {
        let Some(named) = stores::ollama_references(root) else { return };
        for blob in paths::tree(&root.join("blobs")) {
            let name = blob.0.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.contains("-partial") {
                if self.wants(ItemKind::PartialDownload) {
                    self.take(ItemKind::PartialDownload, &blob, None, "a download that was never finished");
                }
            } else if name.starts_with("sha256-")
                && !named.contains(&name)
                && self.wants(ItemKind::OrphanedBlob)
                && self.age(&blob.1) >= self.patience()
            {
                self.take(ItemKind::OrphanedBlob, &blob, None, "none of Ollama's models refers to it");
            }
        }
    }
}

/// Whether a path lies on a disk that is mounted by hand, and is not now.
fn away(target: &Path) -> bool {
    let below = [("/Volumes", 1), ("/mnt", 1), ("/media", 2), ("/run/media", 2)];
    below.iter().any(|(base, depth)| {
        let Ok(rest) = target.strip_prefix(base) else { return false };
        let disk: PathBuf = Path::new(base).join(rest.iter().take(*depth).collect::<PathBuf>());
        fs::read_dir(disk).map_or(true, |mut entries| entries.next().is_none())
    })
}
