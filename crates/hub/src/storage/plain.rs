//! Deleting models that lie as files in a folder: the user's, Perch's, or another program's.

use std::fs;
use std::path::{Path, PathBuf};

use super::plan::Plan;
use super::{ItemKind, RemoveError, RemoveOptions, Storage};
use crate::folder;
use crate::local::LocalModel;
use crate::names;
use crate::stores::{self, StoreKind};
use crate::walk;

/// Files that lie in a checkpoint's folder and belong to it, beside `*.json`, `*.jinja` and `*.safetensors`.
const BESIDE: [&str; 10] = [
    "tokenizer.model",
    "merges.txt",
    "vocab.txt",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
    "USE_POLICY.md",
    ".gitattributes",
];

const WEIGHTS: &str = "a file of the model";
const TARGET: &str = "a file of the model, behind the link";

impl Storage {
    /// Lists the files and links of a model outside the Hugging Face cache, and the folders that are empty without it.
    pub(super) fn plan_plain(
        &self,
        plan: &mut Plan<'_>,
        model: &LocalModel,
        options: RemoveOptions,
    ) -> Result<(), RemoveError> {
        let root = self.root_above(&model.path);
        if let Some(link) = root.as_deref().and_then(|root| linked_folder(root, &model.path)) {
            let others = self.behind(&link, model);
            if others.is_empty() && plan.take(ItemKind::Link, &link, "the link to the model's folder") {
                if let (Some(above), Some(root)) = (link.parent(), &root) {
                    plan.take_folders(above, root);
                }
                self.plan_target(plan, &link, options);
                return Ok(());
            }
            if !options.files {
                return Err(RemoveError::LinkedFolder { id: plan.removal.id.clone(), link, others });
            }
        }
        let store = self.stores.kind(model);
        let linked = model.files.iter().all(|file| is_link(file));
        if store.is_foreign() && !linked && !options.files {
            return Err(RemoveError::Foreign { id: plan.removal.id.clone(), store });
        }
        for file in &model.files {
            let target = is_link(file).then(|| file.canonicalize().ok()).flatten();
            if plan.take(ItemKind::File, file, WEIGHTS)
                && let Some(target) = target
            {
                self.plan_target(plan, &target, options);
            }
        }
        self.plan_beside(plan, model);
        let folder = if model.path.is_dir() { Some(model.path.as_path()) } else { model.path.parent() };
        if let (Some(folder), Some(root)) = (folder, &root) {
            plan.take_folders(folder, root);
        } else if model.path.is_dir() {
            plan.take_folder(&model.path);
        }
        Ok(())
    }

    /// Lists what a link of the model led to, or says that it stays.
    fn plan_target(&self, plan: &mut Plan<'_>, link: &Path, options: RemoveOptions) {
        let Ok(target) = link.canonicalize() else { return };
        let store = self.stores.of(&target).cloned();
        let kind = store.as_ref().map_or(StoreKind::Elsewhere, |store| store.kind);
        if !options.files {
            return plan
                .removal
                .keep(&target, format!("only the link to it is removed; it lies in {}", kind.name()));
        }
        match (kind, store) {
            (StoreKind::HuggingFace, _) => {
                plan.removal
                    .keep(&target, "it lies in the Hugging Face cache; delete it there by its own name");
            }
            (StoreKind::Ollama, Some(store)) => plan_ollama(plan, &store.root, &target),
            _ if target.is_dir() => {
                let weights =
                    walk::list(&target).map(|listing| folder::weights_in(&listing)).unwrap_or_default();
                for file in weights.iter().filter(|w| w.stem.is_none()).flat_map(|w| &w.files) {
                    plan.take(ItemKind::File, file, TARGET);
                }
                take_beside(plan, &target);
                plan.take_folder(&target);
            }
            (_, store) => {
                plan.take(ItemKind::File, &target, TARGET);
                if let (Some(folder), Some(store)) = (target.parent(), store) {
                    plan.take_folders(folder, &store.root);
                }
            }
        }
    }

    /// Lists what lies beside the weights and is of no use without them.
    fn plan_beside(&self, plan: &mut Plan<'_>, model: &LocalModel) {
        if model.path.is_dir() {
            if model.files.iter().all(|file| plan.goes(file)) {
                take_beside(plan, &model.path);
            }
            return;
        }
        // A projector belongs to the models of its folder, and goes with the last of them.
        let Some(listing) = model.path.parent().and_then(walk::list) else { return };
        let left =
            folder::weights_in(&listing).iter().flat_map(|w| w.files.clone()).any(|file| !plan.goes(&file));
        let projectors =
            listing.files.iter().filter(|file| names::gguf_stem(file).is_some_and(names::is_projector));
        for file in projectors.filter(|_| !left) {
            plan.take(ItemKind::File, &listing.dir.join(file), "the projector of the model");
        }
    }

    /// Ids of other models behind the linked folder `link`, at most four.
    fn behind(&self, link: &Path, model: &LocalModel) -> Vec<String> {
        let candidates = self.library.candidates();
        let others =
            candidates.iter().filter(|c| c.weights.path.starts_with(link) && c.weights.path != model.path);
        others.map(|candidate| candidate.names[0].clone()).take(4).collect()
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

/// The outermost link among the folders between `root` and a model, the model's own folder included.
fn linked_folder(root: &Path, model: &Path) -> Option<PathBuf> {
    let mut at = root.to_owned();
    for part in model.strip_prefix(root).ok()? {
        at.push(part);
        if at.is_dir() && is_link(&at) {
            return Some(at);
        }
    }
    None
}

/// Lists the files of a checkpoint's folder that are not weights; what is unknown stays.
fn take_beside(plan: &mut Plan<'_>, folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort_unstable();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kind =
            name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default();
        if matches!(&*kind, "json" | "jinja" | "safetensors") || BESIDE.contains(&name) {
            plan.take(ItemKind::File, &file, "beside the model's weights");
        } else if !plan.goes(&file) && name != ".DS_Store" {
            plan.removal.keep(&file, "it is not known to belong to the model");
        }
    }
}

/// Lists the manifests of Ollama's that name the blob `weights`, and the blobs that no other manifest names.
fn plan_ollama(plan: &mut Plan<'_>, root: &Path, weights: &Path) {
    let (going, staying): (Vec<_>, Vec<_>) = stores::ollama_models(root)
        .into_iter()
        .partition(|model| model.weights.canonicalize().is_ok_and(|real| real == weights));
    // Asked for as a whole, so that a manifest that cannot be read keeps every blob.
    if stores::ollama_references(root).is_none() {
        return plan.removal.keep(weights, "one of Ollama's manifests cannot be read");
    }
    for model in &going {
        plan.take(ItemKind::File, &model.manifest, "Ollama's name for the model");
    }
    for blob in going.iter().flat_map(|model| &model.blobs) {
        if !staying.iter().any(|model| model.blobs.contains(blob)) {
            plan.take(ItemKind::File, &root.join("blobs").join(blob), "a layer that only this model has");
        }
    }
}
