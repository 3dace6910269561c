//! Deleting a model: what goes with it, what stays, and why.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::held::Held;
use super::plan::Plan;
use super::{Item, ItemKind, Removal, Storage};
use crate::local::{LocalModel, Source};
use crate::stores::StoreKind;

/// What to remove beside the model's place in the library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// The bytes of a model that is only linked or referenced, also from another program's store.
    pub files: bool,
    /// Older revisions in the Hugging Face cache.
    pub all_revisions: bool,
}

/// Why a model cannot be deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// It lies in the store of another program.
    #[error(
        "`{id}` lies in {}, which another program manages; delete it there, or ask for its files to be removed as well",
        store.name()
    )]
    Foreign {
        /// Which model.
        id: String,
        /// Whose store.
        store: StoreKind,
    },
    /// It is reached through a linked folder that holds other models.
    #[error(
        "`{id}` is reached through the linked folder {}, which holds other models as well ({}); remove the link \
         yourself, or ask for the model's files to be removed",
        link.display(), others.join(", ")
    )]
    LinkedFolder {
        /// Which model.
        id: String,
        /// The link.
        link: PathBuf,
        /// Models behind the same link, at most four.
        others: Vec<String>,
    },
    /// All of it is needed by another model.
    #[error("`{id}` cannot be deleted: {reason}")]
    Needed {
        /// Which model.
        id: String,
        /// Who needs what.
        reason: String,
    },
    /// Another program has it open or in memory.
    #[error("`{id}` is in use by {holder}: {}; end that first", path.display())]
    InUse {
        /// Which model.
        id: String,
        /// The program and its process.
        holder: String,
        /// The file.
        path: PathBuf,
    },
    /// It is named in a file that Perch does not write.
    #[error(
        "`{id}` is named by its path in config.toml or a flag; take it out there, or ask for its files to be removed"
    )]
    Configured {
        /// Which model.
        id: String,
    },
}

impl Storage {
    /// What deleting `model` would remove. `name` is what requests call it, if that is not the library's id. Blocks.
    ///
    /// # Errors
    /// [`RemoveError`].
    pub fn plan_removal(
        &self,
        name: &str,
        model: &LocalModel,
        options: RemoveOptions,
    ) -> Result<Removal, RemoveError> {
        let twins = self.links_to(model);
        let protected = self.protected(name, &twins, model);
        let mut plan = Plan::new(name, &protected);
        let configured = self.settings_file().has(name);
        match self.stores.kind(model) {
            StoreKind::HuggingFace if model.source == Source::HfCache => {
                self.plan_cached(&mut plan, model, options)
            }
            StoreKind::Elsewhere | StoreKind::LmStudio | StoreKind::Ollama | StoreKind::HuggingFace
                if model.source == Source::Path && !options.files =>
            {
                if !configured {
                    return Err(RemoveError::Configured { id: name.to_owned() });
                }
                plan.removal.keep(&model.path, "only its entry in models.toml is removed");
            }
            _ => self.plan_plain(&mut plan, model, options)?,
        }
        for twin in &twins {
            plan.take(ItemKind::Link, twin, "a link to the model");
            if let (Some(folder), Some(root)) = (twin.parent(), self.root_above(twin)) {
                plan.take_folders(folder, &root);
            }
        }
        let mut removal = plan.removal;
        if removal.items.is_empty() && !configured {
            let kept = removal.kept.first();
            let reason = kept.map_or("there is nothing to remove".to_owned(), |kept| {
                format!("{}: {}", kept.path.display(), kept.reason)
            });
            return Err(RemoveError::Needed { id: name.to_owned(), reason });
        }
        if configured {
            let path = self.settings_file().path().to_owned();
            removal.items.push(Item::new(ItemKind::Entry, path, 0, format!("the settings of `{name}`")));
        }
        Ok(removal)
    }

    /// Deletes `model` as planned now. What could not be removed says why. Blocks.
    ///
    /// # Errors
    /// As [`Storage::plan_removal`], before anything was removed.
    pub fn remove(
        &self,
        name: &str,
        model: &LocalModel,
        options: RemoveOptions,
    ) -> Result<Removal, RemoveError> {
        let plan = self.plan_removal(name, model, options)?;
        // Before anything goes: half a model is of no use.
        let held = Held::now();
        for item in plan.items.iter().filter(|item| item.kind == ItemKind::File) {
            let meta = std::fs::symlink_metadata(&item.path).ok().filter(std::fs::Metadata::is_file);
            if let Some(holder) = meta.and_then(|meta| held.by(&meta).cloned()) {
                let (id, path) = (name.to_owned(), item.path.clone());
                return Err(RemoveError::InUse { id, holder: holder.to_string(), path });
            }
        }
        let protected = self.protected(name, &self.links_to(model), model);
        Ok(self.carry_out(plan, &protected))
    }

    /// Links in Perch's own folder that lead to the bytes of `model`, which hides them in the library. They would lead
    /// nowhere without it.
    fn links_to(&self, model: &LocalModel) -> Vec<PathBuf> {
        let files: HashSet<PathBuf> =
            model.files.iter().filter_map(|file| file.canonicalize().ok()).collect();
        let own = super::real_entry(&model.path);
        let mut links = Vec::new();
        for candidate in self.library.candidates() {
            let same =
                candidate.source == Source::DataDir && super::real_entry(&candidate.weights.path) != own;
            for file in candidate.weights.files.iter().filter(|_| same) {
                let link = std::fs::symlink_metadata(file).is_ok_and(|meta| meta.is_symlink());
                if link && file.canonicalize().is_ok_and(|real| files.contains(&real)) {
                    links.push(file.clone());
                }
            }
        }
        links
    }

    /// The folder of the library's that `path` lies in, as the library writes it.
    pub(super) fn root_above(&self, path: &Path) -> Option<PathBuf> {
        let config = self.library.config();
        let own = config.data_dir.join("models");
        let roots = config.models_dirs.iter().cloned().chain([own]).chain(config.hub_cache());
        roots.filter(|root| path.starts_with(root)).max_by_key(|root| root.as_os_str().len())
    }
}
