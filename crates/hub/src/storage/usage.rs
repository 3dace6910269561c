//! What models take on the disks, each byte counted once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::{FileId, disk_space, file_id, tree};
use super::{CleanupOptions, Removal, Storage, hf};
use crate::candidate::{self, Candidate};
use crate::library::Survey;
use crate::local::{LocalModel, Source};
use crate::stores::{Store, StoreKind};

/// What models take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all models and the files beside them, each byte once.
    pub total_bytes: u64,
    /// Bytes that models share: what copies of them would take more.
    pub shared_bytes: u64,
    /// What a clean-up would free now.
    pub reclaimable_bytes: u64,
    /// Bytes that are free where Perch's folder lies.
    pub free_bytes: u64,
    /// Each place.
    pub stores: Vec<StoreUsage>,
    /// Each model of the library, most bytes first.
    pub models: Vec<ModelUsage>,
}

/// What one place holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreUsage {
    /// Whose it is.
    pub kind: StoreKind,
    /// Where it is.
    pub root: PathBuf,
    /// Models that the library lists from there.
    pub models: usize,
    /// Bytes that lie there, each byte once.
    pub bytes: u64,
    /// What a clean-up would free there.
    pub reclaimable_bytes: u64,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
    /// Bytes that its disk has.
    pub disk_bytes: u64,
}

/// What one model takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelUsage {
    /// Its id.
    pub id: String,
    /// Whose folder it lies in.
    pub kind: StoreKind,
    /// Bytes of its weights' files.
    pub bytes: u64,
    /// Bytes of these that deleting it would free.
    pub freed_bytes: u64,
}

/// Sizes by what bytes they are.
type Bytes = HashMap<FileId, u64>;

impl Storage {
    /// What the models of `survey` and all stores take now. Blocks.
    pub fn usage(&self, survey: &Survey) -> Usage {
        let cleanup = self.plan_cleanup(&CleanupOptions::default());
        let mut all = Bytes::new();
        let mut stores = Vec::new();
        for store in self.stores.iter() {
            let bytes = self.bytes_of(store);
            stores.push(store_usage(store, &bytes, &cleanup, self, &survey.models));
            all.extend(bytes);
        }
        let mut weights = Bytes::new();
        for meta in
            survey.models.iter().flat_map(|model| &model.files).filter_map(|file| fs::metadata(file).ok())
        {
            weights.insert(file_id(&meta), meta.len());
        }
        let separately: u64 = survey.models.iter().map(|model| model.size_bytes).sum();
        let shared_bytes = separately.saturating_sub(weights.values().sum());
        // Models that are named by their path alone lie in no store.
        all.extend(weights);
        let data_dir = &self.library.config().data_dir;
        Usage {
            total_bytes: all.values().sum(),
            shared_bytes,
            reclaimable_bytes: cleanup.freed_bytes(),
            free_bytes: disk_space(data_dir).map_or(0, |(free, _)| free),
            stores,
            models: self.models(&survey.models),
        }
    }

    /// Everything that a store holds for its models.
    fn bytes_of(&self, store: &Store) -> Bytes {
        let mut bytes = Bytes::new();
        let mut add = |path: &Path| {
            if let Some(meta) = fs::metadata(path).ok().filter(fs::Metadata::is_file) {
                bytes.insert(file_id(&meta), meta.len());
            }
        };
        match store.kind {
            StoreKind::HuggingFace => {
                let repos = hf::repos(&store.root);
                repos
                    .iter()
                    .flat_map(|r| &r.revisions)
                    .flat_map(|r| &r.entries)
                    .for_each(|entry| add(&entry.blob));
            }
            StoreKind::Ollama => tree(&store.root.join("blobs")).iter().for_each(|(path, _)| add(path)),
            StoreKind::Perch => {
                tree(&store.root).iter().filter(|(_, meta)| meta.is_file()).for_each(|(path, _)| add(path));
            }
            StoreKind::ModelsDir | StoreKind::LmStudio | StoreKind::Elsewhere => {
                let inside =
                    |path: &PathBuf| path.canonicalize().is_ok_and(|real| real.starts_with(&store.root));
                let candidates = candidate::in_models_dir(&store.root, Source::ModelsDir);
                candidates.iter().flat_map(files_of).filter(inside).for_each(|path| add(&path));
            }
        }
        bytes
    }

    /// Each model: bytes that only it needs come free with it, unless it is a link or another program's.
    fn models(&self, models: &[LocalModel]) -> Vec<ModelUsage> {
        let mut needed: HashMap<FileId, HashSet<PathBuf>> = HashMap::new();
        let mut need = |file: &Path, by: &Path| {
            if let Ok(meta) = fs::metadata(file) {
                needed.entry(file_id(&meta)).or_default().insert(by.to_owned());
            }
        };
        for candidate in self.library.candidates() {
            let by =
                super::real_entry(&candidate.weights.path).unwrap_or_else(|| candidate.weights.path.clone());
            candidate.weights.files.iter().for_each(|file| need(file, &by));
        }
        for reference in self.all_references() {
            let named = Path::new(&reference.id);
            need(&reference.path, named);
        }
        if let Some(hub) = self.library.config().hub_cache() {
            for revision in hf::repos(&hub).iter().flat_map(|repo| &repo.revisions) {
                // The listed revision counts as its models, the others as themselves.
                let listed = models.iter().any(|model| model.path.starts_with(&revision.dir));
                revision
                    .entries
                    .iter()
                    .filter(|_| !listed)
                    .for_each(|entry| need(&entry.path, &revision.dir));
            }
        }
        let mut usage: Vec<ModelUsage> = models
            .iter()
            .map(|model| {
                let kind = self.stores.kind(model);
                let own = |file: &&PathBuf| kind == StoreKind::HuggingFace || !file.is_symlink();
                let freed = model.files.iter().filter(own).filter_map(|file| fs::metadata(file).ok());
                let freed = freed.filter(|meta| needed.get(&file_id(meta)).is_none_or(|by| by.len() <= 1));
                let freed = if kind.is_foreign() || model.source == Source::Path {
                    0
                } else {
                    freed.map(|meta| meta.len()).sum()
                };
                ModelUsage { id: model.id.clone(), kind, bytes: model.size_bytes, freed_bytes: freed }
            })
            .collect();
        usage.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
        usage
    }
}

/// A model's weights, and what lies beside those of a checkpoint.
fn files_of(candidate: &Candidate) -> Vec<PathBuf> {
    let beside =
        candidate.weights.stem.is_none().then(|| fs::read_dir(&candidate.weights.path).ok()).flatten();
    let beside = beside.into_iter().flatten().flatten().map(|entry| entry.path());
    candidate.weights.files.iter().cloned().chain(beside).collect()
}

fn store_usage(
    store: &Store,
    bytes: &Bytes,
    cleanup: &Removal,
    storage: &Storage,
    models: &[LocalModel],
) -> StoreUsage {
    let inside = cleanup.items.iter().filter(|item| item.path.starts_with(&store.root));
    let there = models.iter().filter(|model| {
        let place = super::real_entry(&model.path).and_then(|entry| storage.stores.of(&entry).cloned());
        place.as_ref() == Some(store)
    });
    let (free_bytes, disk_bytes) = disk_space(&store.root).unwrap_or_default();
    StoreUsage {
        kind: store.kind,
        root: store.root.clone(),
        models: there.count(),
        bytes: bytes.values().sum(),
        reclaimable_bytes: inside.map(|item| item.bytes).sum(),
        free_bytes,
        disk_bytes,
    }
}
