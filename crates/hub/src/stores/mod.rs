//! The places where programs keep models: whose each is, and where it is.
//!
//! [`Stores`] knows the folders of a library and those of LM Studio and Ollama, and tells whose a path is. Nothing is
//! created; a store whose folder does not exist is left out.

mod lm_studio;
mod ollama;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use ollama::{OllamaModel, OllamaParams};

use crate::LibraryConfig;
use crate::local::{LocalModel, Source};

/// Whose folder a model lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// Perch's own: `models` in the data folder.
    Perch,
    /// A folder that the user named.
    ModelsDir,
    /// The Hugging Face cache.
    HuggingFace,
    /// LM Studio's models.
    LmStudio,
    /// Ollama's models.
    Ollama,
    /// Anywhere else.
    Elsewhere,
}

impl StoreKind {
    /// Whether the store belongs to another program, which expects its files to stay.
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::LmStudio | Self::Ollama)
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Perch => "Perch's folder",
            Self::ModelsDir => "your models folder",
            Self::HuggingFace => "the Hugging Face cache",
            Self::LmStudio => "LM Studio's models",
            Self::Ollama => "Ollama's models",
            Self::Elsewhere => "elsewhere",
        }
    }
}

/// One store: whose it is, and its folder by its real path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Whose it is.
    pub kind: StoreKind,
    /// Where it is, without links.
    pub root: PathBuf,
}

/// Where other programs keep their models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs {
    /// LM Studio's folders, the one in use first.
    pub lm_studio: Vec<PathBuf>,
    /// Ollama's folders, the one in use first.
    pub ollama: Vec<PathBuf>,
}

impl Programs {
    /// As the programs themselves find them: `OLLAMA_MODELS`, `~/.ollama/models` and the folder of its service on
    /// Linux; the folder that LM Studio's settings name, `~/.lmstudio/models`, and the older `~/.cache/lm-studio/models`.
    pub fn from_env(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = get("HOME").or_else(|| get("USERPROFILE"));
        let ollama = get("OLLAMA_MODELS").into_iter();
        let ollama = ollama.chain(home.iter().map(|home| home.join(".ollama/models")));
        Self {
            lm_studio: home.as_deref().map(lm_studio::folders).unwrap_or_default(),
            ollama: ollama.chain([PathBuf::from("/usr/share/ollama/.ollama/models")]).collect(),
        }
    }

    /// The folder of LM Studio that exists.
    pub fn lm_studio(&self) -> Option<&Path> {
        self.lm_studio.iter().find(|folder| folder.is_dir()).map(PathBuf::as_path)
    }

    /// The folder of Ollama that exists.
    pub fn ollama(&self) -> Option<&Path> {
        self.ollama.iter().find(|folder| folder.is_dir()).map(PathBuf::as_path)
    }
}

/// All stores on this machine.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    all: Vec<Store>,
}

impl Stores {
    /// The stores of a library and of other programs.
    pub fn new(config: &LibraryConfig, programs: &Programs) -> Self {
        let own = [(StoreKind::Perch, config.data_dir.join("models"))];
        let hub = config.hub_cache().map(|hub| (StoreKind::HuggingFace, hub));
        let foreign = programs.lm_studio.iter().map(|folder| (StoreKind::LmStudio, folder.clone()));
        let foreign = foreign.chain(programs.ollama.iter().map(|folder| (StoreKind::Ollama, folder.clone())));
        // A folder that is another program's stays that program's, also where the user named it.
        let named = config.models_dirs.iter().map(|folder| (StoreKind::ModelsDir, folder.clone()));
        let mut stores = Self::default();
        for (kind, folder) in own.into_iter().chain(hub).chain(foreign).chain(named) {
            let Ok(root) = folder.canonicalize() else { continue };
            if root.is_dir() && !stores.all.iter().any(|known| known.root == root) {
                stores.all.push(Store { kind, root });
            }
        }
        stores
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Store> {
        self.all.iter()
    }

    /// The innermost store that a path without links lies in.
    pub fn of(&self, real: &Path) -> Option<&Store> {
        let around = self.all.iter().filter(|store| real.starts_with(&store.root));
        around.max_by_key(|store| store.root.as_os_str().len())
    }

    /// Whose folder a model of the library lies in. Its own links are not followed: a link in Perch's folder is Perch's.
    pub fn kind(&self, model: &LocalModel) -> StoreKind {
        let place = self.place(&model.path);
        match model.source {
            Source::DataDir => StoreKind::Perch,
            Source::HfCache => StoreKind::HuggingFace,
            Source::ModelsDir => place.filter(|kind| kind.is_foreign()).unwrap_or(StoreKind::ModelsDir),
            Source::Path => place.unwrap_or(StoreKind::Elsewhere),
        }
    }

    /// Whose folder holds the entry `path`, which may be a link itself.
    pub(crate) fn place(&self, path: &Path) -> Option<StoreKind> {
        let parent = path.parent()?.canonicalize().ok()?;
        self.of(&parent).map(|store| store.kind)
    }
}

/// The models of an Ollama folder.
pub(crate) fn ollama_models(root: &Path) -> Vec<OllamaModel> {
    ollama::models(root)
}

/// Digests that Ollama's manifests refer to; `None` if one of them cannot be read, so that nothing can be ruled out.
pub(crate) fn ollama_references(root: &Path) -> Option<std::collections::HashSet<String>> {
    ollama::references(root)
}
