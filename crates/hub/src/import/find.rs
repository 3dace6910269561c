//! What there is to import, and what the library would call it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::{Found, ImportError, ImportMode, ImportSource};
use crate::candidate::{self, Candidate};
use crate::folder;
use crate::local::{Format, Source};
use crate::names;
use crate::storage::Storage;
use crate::stores::{self, OllamaModel, OllamaParams};
use crate::walk::Listing;

impl Storage {
    /// The models that lie at a source, each with what the library would call it and whether it has it. Blocks.
    ///
    /// # Errors
    /// [`ImportError::NoSource`] where there is no such file or folder, or no model in it.
    pub fn find_models(&self, source: &ImportSource) -> Result<Vec<Found>, ImportError> {
        let no_source = |path: &Path, reason: &str| ImportError::NoSource {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let (root, mut found): (PathBuf, Vec<Found>) = match source {
            ImportSource::Ollama(root) => {
                if !root.join("manifests").is_dir() {
                    return Err(no_source(root, "it is not a folder of Ollama's: it has no `manifests`"));
                }
                (root.clone(), stores::ollama_models(root).into_iter().map(from_ollama).collect())
            }
            ImportSource::HuggingFace => {
                let hub = self.library.config().hub_cache().unwrap_or_default();
                let found = candidate::in_cache(&hub).into_iter().map(from_candidate).collect();
                (hub, found)
            }
            ImportSource::LmStudio(root) => {
                let found =
                    candidate::in_models_dir(root, Source::Path).into_iter().map(from_candidate).collect();
                (root.clone(), found)
            }
            ImportSource::Path(path) => (path.clone(), at_path(path)),
        };
        if !root.exists() {
            return Err(no_source(&root, "there is no such file or folder"));
        }
        if found.is_empty() {
            let wanted =
                "there is no model in it: no .gguf file, and no folder with config.json and safetensors";
            return Err(no_source(&root, wanted));
        }
        self.name_all(&mut found);
        Ok(found)
    }

    /// Gives each the id that the library would give it, none twice, and marks what the library has.
    fn name_all(&self, found: &mut [Found]) {
        let survey = self.library.survey();
        let first = |files: &[PathBuf]| files.first().and_then(|file| file.canonicalize().ok());
        let entries = self.settings_file().entries().unwrap_or_default();
        let data_dir = &self.library.config().data_dir;
        let referenced = entries.iter().filter_map(|entry| {
            let model = self.library.at_path(&data_dir.join(entry.path.as_ref()?)).ok()?;
            Some((first(&model.files)?, entry.id.as_str()))
        });
        let listed = survey.models.iter().filter_map(|model| Some((first(&model.files)?, model.id.as_str())));
        let known: HashMap<PathBuf, &str> = referenced.chain(listed).collect();
        let mut ids: HashSet<String> =
            survey.models.iter().map(|model| model.id.to_ascii_lowercase()).collect();
        ids.extend(entries.iter().map(|entry| entry.id.to_ascii_lowercase()));
        let mut names = HashSet::new();
        for model in found {
            if !names.insert(model.name.clone()) {
                model.name = format!("{} ({})", model.name, model.from.display());
            }
            model.known_as = first(&model.files).and_then(|file| known.get(&file)).map(|id| (*id).to_owned());
            if model.known_as.is_some() {
                continue;
            }
            let wanted = model.place.names();
            let free = wanted.iter().find(|id| !ids.contains(&id.to_ascii_lowercase()));
            match free {
                Some(id) => model.id = id.clone(),
                None => model.name_is_taken = true,
            }
            ids.insert(model.id.to_ascii_lowercase());
        }
    }
}

/// A file, a folder of the Hugging Face cache, or a folder with models in it.
fn at_path(path: &Path) -> Vec<Found> {
    let candidates = match path.is_dir() {
        false => candidate::in_file(path),
        true => {
            let direct = candidate::in_folder(path);
            let is_repo = direct.iter().any(|candidate| candidate.repo.is_some());
            if is_repo { direct } else { candidate::in_models_dir(path, Source::Path) }
        }
    };
    candidates.into_iter().map(from_candidate).collect()
}

fn from_candidate(candidate: Candidate) -> Found {
    let Candidate { weights, repo, names, .. } = candidate;
    let size_bytes =
        weights.files.iter().filter_map(|file| fs::metadata(file).ok()).map(|meta| meta.len()).sum();
    let name = names.first().cloned().unwrap_or_default();
    let obstacle = (!weights.missing.is_empty())
        .then(|| format!("files are missing ({}); download it again", weights.missing.join(", ")));
    let file_name = |file: &PathBuf| file.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let owned = repo.as_ref().or(Some(&name)).and_then(|name| name.split_once('/'));
    let owned = owned.and_then(|(owner, name)| names::repo(owner, name.split(':').next()?));
    let folders = match (&owned, &weights.stem) {
        (Some(repo), _) => repo.split('/').map(str::to_owned).collect(),
        (None, Some(stem)) => vec![stem.clone()],
        (None, None) => vec![name.clone()],
    };
    let files = match weights.stem {
        Some(_) => weights.files.iter().filter_map(file_name).map(with_extension).collect(),
        None => Vec::new(),
    };
    Found {
        id: name.clone(),
        name,
        from: weights.path,
        format: weights.format,
        files: weights.files,
        size_bytes,
        quantization: weights.quantization,
        known_as: None,
        notes: Vec::new(),
        obstacle,
        name_is_taken: false,
        place: Place { folders, files },
        params: OllamaParams::default(),
    }
}

fn from_ollama(model: OllamaModel) -> Found {
    let (repo, label) = model.id.split_once(':').unwrap_or((&model.id, ""));
    let folders: Vec<String> = repo.split('/').map(str::to_owned).collect();
    let last = folders.last().cloned().unwrap_or_default();
    let file = if label.is_empty() { format!("{last}.gguf") } else { format!("{last}-{label}.gguf") };
    Found {
        size_bytes: fs::metadata(&model.weights).map_or(0, |meta| meta.len()),
        quantization: names::quantization_label(&model.name),
        name: model.name,
        id: model.id,
        files: vec![model.weights.clone()],
        from: model.weights,
        format: Format::Gguf,
        known_as: None,
        notes: model.notes,
        obstacle: model.obstacle,
        name_is_taken: false,
        place: Place { folders, files: vec![file] },
        params: model.params,
    }
}

/// A blob has no extension, and the library goes by it.
fn with_extension(file: String) -> String {
    if names::gguf_stem(&file).is_some() { file } else { format!("{file}.gguf") }
}

impl Place {
    /// What the library calls a model that lies here, best first.
    pub(super) fn names(&self) -> Vec<String> {
        if self.files.is_empty() {
            return vec![self.folders.join("/")];
        }
        let listing =
            Listing { dir: PathBuf::new(), below_root: self.folders.clone(), files: self.files.clone() };
        let weights = folder::weights_in(&listing);
        weights.first().map(|weights| candidate::local_names(weights, &listing, None)).unwrap_or_default()
    }
}

impl Found {
    /// Gives it another id, and the place that goes with it.
    ///
    /// # Errors
    /// A sentence, where the library could not call it so.
    pub(super) fn rename(&mut self, id: &str, mode: ImportMode) -> Result<(), String> {
        let (path, label) = id.split_once(':').unwrap_or((id, ""));
        let parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        let safe = |part: &String| names::is_safe(part) && part.trim() == part;
        if parts.len() > 2 || !parts.iter().all(safe) || (!label.is_empty() && !names::is_safe(label)) {
            return Err(
                "write `name`, `owner/name` or `owner/name:LABEL`, without spaces at the ends".to_owned()
            );
        }
        self.id = id.to_owned();
        self.name_is_taken = false;
        if mode == ImportMode::Reference {
            return Ok(());
        }
        let last = parts.last().cloned().unwrap_or_default();
        let stem = if label.is_empty() { last } else { format!("{last}-{label}") };
        let count = self.place.files.len();
        let file = |number: usize| match count {
            1 => format!("{stem}.gguf"),
            _ => format!("{stem}-{:05}-of-{count:05}.gguf", number + 1),
        };
        self.place = Place { folders: parts, files: (0..count).map(file).collect() };
        match self.place.names().iter().any(|name| name == id) {
            true => Ok(()),
            false => Err(format!(
                "in Perch's folder it would be called `{}`; take that, or import it by reference",
                self.place.names().first().map(String::as_str).unwrap_or_default()
            )),
        }
    }
}
