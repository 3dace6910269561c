//! `Catalogue`: the models that requests may name, from the library and the `[[models]]` of the configuration.
//!
//! Looks at the disk each time it is asked, as the library does; call it where blocking is allowed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use perch_hub::{Library, LibraryConfig, LocalModel, NotFound};
use perch_protocol::ErrorCode;

use crate::config::{Config, ModelConfig};
use crate::error::ApiError;

/// A model that requests may name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What requests call it.
    pub id: String,
    /// The file or folder it is.
    pub path: PathBuf,
    /// Its settings; all absent where nobody configured it.
    pub config: ModelConfig,
    /// When its files were written, in seconds since 1970.
    pub created: u64,
    /// Bytes of its weights' files.
    pub size_bytes: u64,
}

impl Entry {
    fn new(local: LocalModel, config: Option<&ModelConfig>) -> Self {
        let written = local.modified.unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH);
        Self {
            id: config.map_or(local.id, |config| config.id.clone()),
            path: local.path,
            config: config.cloned().unwrap_or_default(),
            created: written.map_or(0, |time| time.as_secs()),
            size_bytes: local.size_bytes,
        }
    }
}

/// The models that requests may name.
pub(crate) struct Catalogue {
    library: Library,
    models: Vec<ModelConfig>,
    /// A model that the operator gave by its path.
    given: Option<LocalModel>,
}

impl Catalogue {
    /// The catalogue of `config`, and the id of its default model. Blocks.
    ///
    /// # Errors
    /// When the default model is neither configured nor found.
    pub(crate) fn open(config: &Config) -> Result<(Self, Option<String>), NotFound> {
        let library = Library::new(LibraryConfig {
            models_dirs: config.models_dirs.clone(),
            hf_home: None,
            data_dir: config.data_dir.clone(),
        });
        let mut catalogue = Self { library, models: config.models.clone(), given: None };
        let Some(name) = &config.default_model else { return Ok((catalogue, None)) };
        if let Some(model) = catalogue.models.iter().find(|model| model.answers_to(name)) {
            let id = model.id.clone();
            return Ok((catalogue, Some(id)));
        }
        let local = catalogue.library.resolve(name)?;
        let id = local.id.clone();
        if local.source == perch_hub::Source::Path {
            catalogue.given = Some(local);
        }
        Ok((catalogue, Some(id)))
    }

    /// The model called `name`. Blocks.
    pub(crate) fn find(&self, name: &str) -> Result<Entry, ApiError> {
        if let Some(config) = self.models.iter().find(|model| model.answers_to(name)) {
            return self.configured(config);
        }
        if let Some(given) = self.given.as_ref().filter(|given| given.id == name) {
            return Ok(Entry::new(given.clone(), None));
        }
        let local = self.library.find(name)?;
        // The library forgives other spellings; a model's settings hold whatever it was called.
        match self.models.iter().find(|model| model.id == local.id) {
            Some(config) => self.configured(config),
            None => Ok(Entry::new(local, None)),
        }
    }

    /// All models, by id. Blocks.
    pub(crate) fn list(&self) -> Vec<Entry> {
        let configured = self.models.iter().filter_map(|config| self.configured(config).ok());
        let given = self.given.iter().map(|given| Entry::new(given.clone(), None));
        let mut seen: HashSet<String> = self.models.iter().map(|config| config.id.clone()).collect();
        let mut entries: Vec<Entry> = configured.collect();
        let found = self.library.scan().into_iter().map(|local| Entry::new(local, None));
        for entry in given.chain(found) {
            if seen.insert(entry.id.clone()) {
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries
    }

    fn configured(&self, config: &ModelConfig) -> Result<Entry, ApiError> {
        if !config.is_enabled() {
            let message = format!("the model `{}` is disabled in the configuration", config.id);
            return Err(ApiError::new(ErrorCode::ModelNotFound, message).with_param("model"));
        }
        let local = match (&config.path, &config.repo) {
            (Some(path), _) => self.library.at_path(path)?,
            (None, Some(repo)) => self.library.find(repo)?,
            (None, None) => self.library.find(&config.id)?,
        };
        Ok(Entry::new(local, Some(config)))
    }
}
