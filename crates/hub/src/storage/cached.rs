//! Deleting models from the Hugging Face cache, so that `huggingface_hub` finds nothing amiss in what is left.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::hf::{self, Repo, Revision};
use super::plan::Plan;
use super::{ItemKind, RemoveOptions, Storage, held, paths};
use crate::folder;
use crate::local::LocalModel;
use crate::walk;

impl Storage {
    /// Lists a model of the cache: its entries of the revision that is listed, or the whole revision if nothing else is
    /// in it; blobs that no other revision refers to; the repository's folder with its last revision.
    pub(super) fn plan_cached(&self, plan: &mut Plan<'_>, model: &LocalModel, options: RemoveOptions) {
        let Some((root, dir)) = places(&model.path) else { return };
        let repo = Repo::read(&root);
        let Some(listed) = repo.revisions.iter().find(|revision| revision.dir == dir) else { return };
        if has_others(&dir, &model.files) {
            let blobs = self.plan_entries(plan, &repo, model);
            return self.plan_payloads(plan, &root, &blobs);
        }
        let leaving: Vec<&Revision> = match options.all_revisions {
            true => repo.revisions.iter().collect(),
            false => vec![listed],
        };
        let mut blobs = Vec::new();
        let dirs: Vec<PathBuf> = leaving.iter().map(|revision| revision.dir.clone()).collect();
        let shared = repo.referenced(&dirs);
        for revision in &leaving {
            blobs.extend(plan_revision(plan, &repo, revision, &shared));
        }
        let stays = repo.revisions.len() - leaving.len();
        if stays > 0 {
            let others = repo.revisions.iter().filter(|revision| !dirs.contains(&revision.dir));
            for other in others {
                plan.removal.keep(&other.dir, "another revision of the model, which is listed from now on");
            }
        } else {
            plan_repo(plan, &repo);
        }
        self.plan_payloads(plan, &root, &blobs);
    }

    /// Lists the entries of one of several models of a revision, and their blobs.
    fn plan_entries(&self, plan: &mut Plan<'_>, repo: &Repo, model: &LocalModel) -> Vec<PathBuf> {
        let entries = repo.revisions.iter().flat_map(|revision| &revision.entries);
        let (own, others): (Vec<_>, Vec<_>) = entries.partition(|entry| model.files.contains(&entry.path));
        let shared: HashSet<&Path> = others.iter().map(|entry| entry.blob.as_path()).collect();
        let mut blobs = Vec::new();
        for entry in &own {
            plan.take(ItemKind::File, &entry.path, "a file of the model");
            if entry.blob != entry.path {
                blobs.extend(take_blob(plan, repo, &entry.blob, &shared));
            }
            if let Some(folder) = entry.path.parent() {
                plan.take_folders(folder, &repo.root.join("snapshots"));
            }
        }
        blobs
    }

    /// Lists what the given blobs (links, by now on the list) led to in the cache's shared store, where nothing else
    /// leads there.
    fn plan_payloads(&self, plan: &mut Plan<'_>, root: &Path, blobs: &[PathBuf]) {
        let Some(hub) = root.parent().filter(|hub| hf::shared_store(hub).is_some()) else { return };
        let targets: Vec<PathBuf> = blobs.iter().filter_map(|blob| blob.canonicalize().ok()).collect();
        for repo in hf::repos(hub) {
            for (link, _) in
                paths::tree(&repo.root.join("blobs")).iter().filter(|(_, meta)| meta.is_symlink())
            {
                if link.canonicalize().is_ok_and(|real| targets.contains(&real)) && !plan.goes(link) {
                    return plan.removal.keep(link, "another repository shares the bytes");
                }
            }
        }
        let store = hub.join("blobs");
        for target in
            targets.iter().filter(|target| store.canonicalize().is_ok_and(|store| target.starts_with(store)))
        {
            if held::is_locked(&target.with_extension("lock")) {
                plan.removal.keep(target, "a program is working with it");
            } else if plan.take(ItemKind::File, target, "shared bytes that nothing else refers to") {
                plan.take(ItemKind::File, &target.with_extension("refs"), "the list of what refers to them");
            }
        }
    }
}

/// The repository's folder and the snapshot's that a path of the cache lies in.
fn places(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let dir = path.ancestors().find(|at| {
        at.parent().and_then(Path::file_name).is_some_and(|name| name == "snapshots")
            && at.ancestors().nth(2).is_some_and(|root| {
                root.file_name().is_some_and(|name| name.to_string_lossy().starts_with("models--"))
            })
    })?;
    Some((dir.ancestors().nth(2)?.to_owned(), dir.to_owned()))
}

/// Whether a snapshot has weights beside these files.
fn has_others(snapshot: &Path, files: &[PathBuf]) -> bool {
    let listings = walk::walk(snapshot, walk::Links::Anywhere);
    let mut weights = listings.iter().flat_map(folder::weights_in).flat_map(|weights| weights.files);
    weights.any(|file| !files.contains(&file))
}

/// Lists everything of a revision; returns the blobs that go.
fn plan_revision(
    plan: &mut Plan<'_>,
    repo: &Repo,
    revision: &Revision,
    shared: &HashSet<&Path>,
) -> Vec<PathBuf> {
    let mut blobs = Vec::new();
    for entry in &revision.entries {
        let goes = plan.take(ItemKind::File, &entry.path, "a file of the revision");
        if goes && entry.blob != entry.path {
            blobs.extend(take_blob(plan, repo, &entry.blob, shared));
        }
    }
    for folder in paths::folders(&revision.dir) {
        plan.take_folder(&folder);
    }
    // A name for a revision that is still there must stay.
    if plan.goes(&revision.dir) {
        for name in &revision.refs {
            plan.take(ItemKind::File, name, "the name of the revision");
        }
    }
    blobs
}

/// Lists a blob of the repository unless others refer to it.
fn take_blob(plan: &mut Plan<'_>, repo: &Repo, blob: &Path, shared: &HashSet<&Path>) -> Option<PathBuf> {
    if !blob.starts_with(repo.root.join("blobs")) {
        plan.removal.keep(blob, "it lies outside the repository's blobs");
    } else if shared.contains(blob) {
        plan.removal.keep(blob, "another revision refers to it");
    } else if repo.lock(blob).is_some_and(|lock| held::is_locked(&lock)) {
        plan.removal.keep(blob, "a program is downloading it");
    } else if plan.take(ItemKind::File, blob, "the bytes of a file of the model") {
        return Some(blob.to_owned());
    }
    None
}

/// Lists what is left of a repository without revisions. Its `snapshots` folder stays if anything else does, because
/// `huggingface_hub` takes a repository without one for damaged.
fn plan_repo(plan: &mut Plan<'_>, repo: &Repo) {
    for (blob, _) in repo.orphans() {
        take_blob(plan, repo, &blob, &HashSet::new());
    }
    for (partial, _) in repo.partials() {
        match repo.lock(&partial).is_some_and(|lock| held::is_locked(&lock)) {
            true => plan.removal.keep(&partial, "a program is downloading it"),
            false => {
                plan.take(ItemKind::PartialDownload, &partial, "a download that was never finished");
            }
        }
    }
    for part in ["refs", ".no_exist"] {
        for (file, _) in paths::tree(&repo.root.join(part)) {
            plan.take(ItemKind::File, &file, "a note about the repository");
        }
    }
    for part in ["refs", ".no_exist", "blobs"] {
        for folder in paths::folders(&repo.root.join(part)) {
            plan.take_folder(&folder);
        }
    }
    let snapshots = repo.root.join("snapshots");
    let left = fs::read_dir(&repo.root).into_iter().flatten().flatten().map(|entry| entry.path());
    if left.into_iter().all(|path| path == snapshots || plan.goes(&path)) && plan.take_folder(&snapshots) {
        plan.take_folder(&repo.root);
    }
}
