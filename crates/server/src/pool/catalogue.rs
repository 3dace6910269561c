//! `Catalogue`: the models that requests may name, from the library, the `[[models]]` of the configuration and the
//! program itself.
//!
//! A name is looked up on the disk each time it is asked for, so that what was just copied in is there; the list of all
//! is remembered for a second. Call it where blocking is allowed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};
use perch_hub::{Library, LibraryConfig, LocalModel, NotFound};
use perch_protocol::ErrorCode;

use crate::config::{Config, ModelConfig};
use crate::error::ApiError;
use crate::loader::BuiltIn;

/// How long the list of all models is remembered.
const FRESH: Duration = Duration::from_secs(1);

/// A model that requests may name.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What requests call it.
    pub id: String,
    /// The file or folder it is; empty for a model that is part of the program, or of another server.
    pub path: PathBuf,
    /// Set for a model that is part of the program.
    pub built_in: Option<BuiltIn>,
    /// Its settings; all absent where nobody configured it.
    pub config: ModelConfig,
    /// When its files were written, in seconds since 1970.
    pub created: u64,
    /// The same, as exactly as the file system says.
    pub modified: Option<SystemTime>,
    /// Bytes of its weights' files.
    pub size_bytes: u64,
}

impl Entry {
    fn new(local: LocalModel, config: Option<&ModelConfig>) -> Self {
        let written = local.modified.unwrap_or(SystemTime::UNIX_EPOCH).duration_since(UNIX_EPOCH);
        Self {
            id: config.map_or(local.id, |config| config.id.clone()),
            path: local.path,
            built_in: None,
            config: config.cloned().unwrap_or_default(),
            created: written.map_or(0, |time| time.as_secs()),
            modified: local.modified,
            size_bytes: local.size_bytes,
        }
    }

    fn built_in(model: BuiltIn, config: Option<&ModelConfig>) -> Self {
        Self {
            id: config.map_or(model.id, |config| &config.id).to_owned(),
            path: PathBuf::new(),
            built_in: Some(model),
            config: config.cloned().unwrap_or_default(),
            created: 0,
            modified: None,
            size_bytes: model.gguf.len() as u64,
        }
    }

    /// A model of another server.
    fn elsewhere(config: &ModelConfig) -> Self {
        Self {
            id: config.id.clone(),
            path: PathBuf::new(),
            built_in: None,
            config: config.clone(),
            created: 0,
            modified: None,
            size_bytes: 0,
        }
    }

    /// Whether an engine that was built for `self` is the one that `other` asks for: the same files, loaded alike.
    pub(super) fn same_engine(&self, other: &Entry) -> bool {
        let files = |entry: &Entry| (entry.modified, entry.size_bytes, entry.built_in.map(|model| model.id));
        let ModelConfig { backend, context, quantize, kv_budget, .. } = &self.config;
        let config = &other.config;
        self.path == other.path
            && files(self) == files(other)
            && (backend, context, quantize, kv_budget)
                == (&config.backend, &config.context, &config.quantize, &config.kv_budget)
    }
}

/// A list of all models.
struct Listed {
    /// When the disk was looked at for it.
    at: Instant,
    entries: Arc<[Arc<Entry>]>,
}

/// The models that requests may name.
pub(crate) struct Catalogue {
    library: Library,
    /// The `[[models]]` tables.
    settings: RwLock<Arc<[ModelConfig]>>,
    /// A model that the operator gave by its path.
    given: Option<LocalModel>,
    /// The model that is part of the program. One in the library by the very same id hides it.
    built_in: Option<BuiltIn>,
    /// The last list of all.
    listed: Mutex<Option<Listed>>,
}

impl Catalogue {
    /// The catalogue of `config`, and the id of its default model. Blocks.
    ///
    /// # Errors
    /// When the default model is neither configured nor found.
    pub(crate) fn open(
        config: &Config,
        built_in: Option<BuiltIn>,
    ) -> Result<(Self, Option<String>), NotFound> {
        let library = Library::new(LibraryConfig {
            models_dirs: config.models_dirs.clone(),
            hf_home: None,
            data_dir: config.data_dir.clone(),
        });
        let mut catalogue = Self {
            library,
            settings: RwLock::new(config.models.clone().into()),
            given: None,
            built_in: built_in.filter(|_| config.builtin),
            listed: Mutex::new(None),
        };
        let Some(name) = &config.default_model else { return Ok((catalogue, None)) };
        if let Some(model) = config.models.iter().find(|model| model.answers_to(name)) {
            return Ok((catalogue, Some(model.id.clone())));
        }
        if let Some(model) = catalogue.built_in(name) {
            return Ok((catalogue, Some(model.id.to_owned())));
        }
        let local = catalogue.library.resolve(name)?;
        let id = local.id.clone();
        if local.source == perch_hub::Source::Path {
            catalogue.given = Some(local);
        }
        Ok((catalogue, Some(id)))
    }

    /// The settings of the models.
    pub(crate) fn settings(&self) -> Arc<[ModelConfig]> {
        self.settings.read().clone()
    }

    /// Replaces the settings of the models.
    pub(crate) fn configure(&self, settings: Vec<ModelConfig>) {
        *self.settings.write() = settings.into();
        self.refresh();
    }

    /// Forgets what was remembered of the disk.
    pub(crate) fn refresh(&self) {
        *self.listed.lock() = None;
    }

    /// The model called `name`: one that is configured so, else one that is found, else the one whose alias with a `*`
    /// fits best. Blocks.
    pub(crate) fn find(&self, name: &str) -> Result<Entry, ApiError> {
        let entry = self.look_up(name)?;
        // What can be asked for is listed as well.
        let mut listed = self.listed.lock();
        if listed.as_ref().is_some_and(|listed| listed.entries.iter().all(|known| known.id != entry.id)) {
            *listed = None;
        }
        Ok(entry)
    }

    fn look_up(&self, name: &str) -> Result<Entry, ApiError> {
        let settings = self.settings();
        if let Some(config) = settings.iter().find(|model| model.answers_to(name)) {
            return self.configured(config);
        }
        if let Some(given) = self.given.as_ref().filter(|given| given.id == name) {
            return Ok(Entry::new(given.clone(), None));
        }
        if let Some(model) = self.built_in(name) {
            return Ok(Entry::built_in(model, None));
        }
        let local = match self.library.find(name) {
            Ok(local) => local,
            Err(error) => {
                let caught = settings.iter().filter_map(|model| Some((model.catches(name)?, model)));
                return match caught.max_by_key(|(fits, _)| *fits) {
                    Some((_, config)) => self.configured(config),
                    None => Err(error.into()),
                };
            }
        };
        // The library forgives other spellings; a model's settings hold whatever it was called.
        match settings.iter().find(|model| model.id == local.id) {
            Some(config) => self.configured(config),
            None => Ok(Entry::new(local, None)),
        }
    }

    /// All models, by id, as they were at most a second ago. Blocks.
    pub(crate) fn list(&self) -> Arc<[Arc<Entry>]> {
        // The lock is held meanwhile: who asks at the same time gets the same list.
        let mut listed = self.listed.lock();
        if let Some(fresh) = listed.as_ref().filter(|listed| listed.at.elapsed() < FRESH) {
            return fresh.entries.clone();
        }
        let at = Instant::now();
        let entries: Arc<[Arc<Entry>]> = self.look().into_iter().map(Arc::new).collect();
        *listed = Some(Listed { at, entries: entries.clone() });
        entries
    }

    fn look(&self) -> Vec<Entry> {
        let settings = self.settings();
        let configured = settings.iter().filter_map(|config| self.configured(config).ok());
        let given = self.given.iter().map(|given| Entry::new(given.clone(), None));
        let mut seen: HashSet<String> = settings.iter().map(|config| config.id.clone()).collect();
        let mut entries: Vec<Entry> = configured.collect();
        let found = self.library.scan().into_iter().map(|local| Entry::new(local, None));
        let built_in = self.built_in.map(|model| Entry::built_in(model, None));
        for entry in given.chain(found).chain(built_in) {
            if seen.insert(entry.id.clone()) {
                entries.push(entry);
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        entries
    }

    /// The model that is part of the program, if `name` means it.
    fn built_in(&self, name: &str) -> Option<BuiltIn> {
        let model = self.built_in.filter(|model| model.id.eq_ignore_ascii_case(name))?;
        let hidden = self.library.find(name).is_ok_and(|local| local.id.eq_ignore_ascii_case(name));
        (!hidden).then_some(model)
    }

    fn configured(&self, config: &ModelConfig) -> Result<Entry, ApiError> {
        if !config.is_enabled() {
            let message = format!("the model `{}` is disabled in the configuration", config.id);
            return Err(ApiError::new(ErrorCode::ModelNotFound, message).with_param("model"));
        }
        if config.provider.is_some() {
            return Ok(Entry::elsewhere(config));
        }
        let name = config.repo.as_ref().unwrap_or(&config.id);
        let local = match &config.path {
            Some(path) => self.library.at_path(path)?,
            None => match self.built_in(name) {
                Some(model) => return Ok(Entry::built_in(model, Some(config))),
                None => self.library.find(name)?,
            },
        };
        Ok(Entry::new(local, Some(config)))
    }
}
