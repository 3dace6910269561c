//! `LocalLibrary`: the models on this machine as the API and the commands show them: listed, described, imported,
//! deleted, cleaned up after.
//!
//! The disk is looked at afresh for every answer; what opening a model told is kept until its files change. Everything
//! here blocks.

mod built_in;
mod describe;
mod inspect;
mod last_used;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use perch_hub::{
    CleanupOptions, FactsCache, ImportError, ImportOptions, ImportSource, Library, LibraryConfig, LocalModel,
    Programs, Reference, RemoveError, RemoveOptions, SettingsError, Storage,
};
use perch_protocol as protocol;
use perch_protocol::ErrorCode;

use crate::config::{Config, ModelConfig};
use crate::error::ApiError;
use crate::loader::BuiltIn;

pub(crate) use last_used::LastUsed;

/// The models on this machine. Cheap to clone; clones share what is known about models.
#[derive(Debug, Clone)]
pub struct LocalLibrary {
    library: Library,
    programs: Programs,
    facts: Arc<FactsCache>,
    /// The `[[models]]` tables.
    settings: Arc<[ModelConfig]>,
    /// Longest context of all models, if said.
    context: Option<usize>,
    /// Whether the built-in model is wanted, and which it is.
    builtin: bool,
    built_in: Option<BuiltIn>,
}

/// What only a running server knows about a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Running {
    /// Whether it is in memory.
    pub loaded: bool,
    /// When a request last used it, in milliseconds since 1970.
    pub last_used_at: Option<u64>,
}

/// A model of the library by the name that requests use.
#[derive(Debug, Clone)]
struct Named {
    id: String,
    names: Vec<String>,
    model: LocalModel,
    /// Longest context that its settings allow.
    context: Option<usize>,
}

impl LocalLibrary {
    /// The library of a configuration. Other programs' folders are found by the environment.
    pub fn new(config: &Config) -> Self {
        let library = Library::new(LibraryConfig {
            models_dirs: config.models_dirs.clone(),
            hf_home: None,
            data_dir: config.data_dir.clone(),
        });
        let cache = config.data_dir.join("cache").join("models.json");
        Self {
            library,
            programs: Programs::from_env(|name| std::env::var_os(name)),
            facts: Arc::new(FactsCache::open(cache, env!("CARGO_PKG_VERSION"))),
            settings: config.models.clone().into(),
            context: config.pool.context,
            builtin: config.builtin,
            built_in: None,
        }
    }

    /// The same library with other settings of its models.
    pub fn with_settings(&self, settings: Arc<[ModelConfig]>) -> Self {
        Self { settings, ..self.clone() }
    }

    /// All models. `running` tells what a server knows about the model of an id.
    pub fn list(&self, running: &dyn Fn(&str) -> Running) -> protocol::LocalModelList {
        let survey = self.library.survey();
        let stores = self.storage().stores().clone();
        let named = self.named(survey.models);
        let incomplete = survey.incomplete.into_iter().map(|model| protocol::IncompleteModel {
            store: match model.source {
                perch_hub::Source::DataDir => protocol::Store::Perch,
                perch_hub::Source::HfCache => protocol::Store::HuggingFace,
                perch_hub::Source::ModelsDir | perch_hub::Source::Path => protocol::Store::ModelsDir,
            },
            id: model.id,
            path: wire::text(&model.path),
            missing: model.missing.into_iter().take(8).collect(),
        });
        let mut models = self.describe_all(&named, &stores, running);
        models.extend(self.built_in(&named).map(|model| self.describe_built_in(model, running(model.id))));
        protocol::LocalModelList { models, incomplete: incomplete.collect() }
    }

    /// One model with everything that is known about it.
    ///
    /// # Errors
    /// `model_not_found`.
    pub fn details(&self, id: &str, running: Running) -> Result<protocol::LocalModelDetails, ApiError> {
        if let Some(model) = self.built_in_called(id) {
            return Ok(self.describe_whole_built_in(model, running));
        }
        let named = self.find(id)?;
        let stores = self.storage().stores().clone();
        let mut described = self.describe_all(std::slice::from_ref(&named), &stores, &|_| running);
        let model =
            described.pop().ok_or_else(|| ApiError::new(ErrorCode::EngineError, "the model went away"))?;
        let plan = self.storage().plan_removal(&named.id, &named.model, RemoveOptions::default());
        let removal = match plan {
            Ok(plan) => wire::removal(plan, true),
            Err(error) => protocol::Removal {
                id: named.id.clone(),
                dry_run: true,
                kept: vec![protocol::KeptItem { path: model.path.clone(), reason: error.to_string() }],
                ..protocol::Removal::default()
            },
        };
        Ok(self.describe_whole(&named, model, removal))
    }

    /// The id by which requests know the model that `id` names.
    ///
    /// # Errors
    /// `model_not_found`.
    pub fn id_of(&self, id: &str) -> Result<String, ApiError> {
        if let Some(model) = self.built_in_called(id) {
            return Ok(model.id.to_owned());
        }
        Ok(self.find(id)?.id)
    }

    /// Compares a model's bytes with the checksums that its store keeps. Reads all of them.
    ///
    /// # Errors
    /// `model_not_found`.
    pub fn verify(&self, id: &str) -> Result<protocol::Verification, ApiError> {
        if self.built_in_called(id).is_some() {
            return Ok(protocol::Verification::Verified);
        }
        Ok(wire::verification(self.facts.verify(&self.find(id)?.model)))
    }

    /// Deletes a model, or says what that would remove.
    ///
    /// # Errors
    /// `model_not_found`; `conflict` where it lies in another program's store, or others need it.
    pub fn remove(&self, id: &str, query: protocol::RemoveQuery) -> Result<protocol::Removal, ApiError> {
        if let Some(model) = self.built_in_called(id) {
            return Err(ApiError::new(ErrorCode::Conflict, built_in::stays(model)).with_param("id"));
        }
        let named = self.find_exactly(id)?;
        let options = RemoveOptions { files: query.files, all_revisions: query.all_revisions };
        let storage = self.storage();
        let done = match query.dry_run {
            true => storage.plan_removal(&named.id, &named.model, options),
            false => storage.remove(&named.id, &named.model, options),
        };
        Ok(wire::removal(done?, query.dry_run))
    }

    /// Imports models, or says what would be imported.
    ///
    /// # Errors
    /// `invalid_value` where there is nothing to import or the name cannot be given; `not_found` where the other program
    /// is not on this machine.
    pub fn import(&self, request: &protocol::ImportRequest) -> Result<protocol::ImportReport, ApiError> {
        self.import_to(request, None)
    }

    /// As [`LocalLibrary::import`]; settings go into the file `output`.
    ///
    /// # Errors
    /// As [`LocalLibrary::import`].
    pub fn import_to(
        &self,
        request: &protocol::ImportRequest,
        output: Option<PathBuf>,
    ) -> Result<protocol::ImportReport, ApiError> {
        let source = self.source(request.source, request.path.as_deref())?;
        let options = ImportOptions {
            models: request.models.clone(),
            id: request.id.clone(),
            mode: wire::mode(request.mode),
            profile: request.profile.map(wire::profile),
            output,
            dry_run: request.dry_run,
        };
        let report = self.storage().import(&source, &options, &|path| inspect::check(path))?;
        Ok(wire::import_report(report, request))
    }

    /// What models take on the disks.
    pub fn usage(&self) -> protocol::StorageStats {
        let mut survey = self.library.survey();
        let referenced =
            self.named(Vec::new()).into_iter().map(|named| LocalModel { id: named.id, ..named.model });
        survey.models.extend(referenced);
        wire::usage(self.storage().usage(&survey))
    }

    /// Removes what nothing needs, or says what that is.
    ///
    /// # Errors
    /// `invalid_value` for a kind of thing that a clean-up does not remove.
    pub fn cleanup(&self, request: &protocol::CleanupRequest) -> Result<protocol::CleanupReport, ApiError> {
        use protocol::StorageItemKind::{Entry, File, Folder, Link};
        let kinds = request.kinds.as_ref();
        if kinds.is_some_and(|kinds| kinds.iter().any(|kind| matches!(kind, File | Link | Folder | Entry))) {
            let message = "a clean-up removes orphaned_blob, partial_download, broken_link, unreferenced_snapshot and \
                           abandoned_import; delete a model to remove its files";
            return Err(ApiError::invalid("kinds", message));
        }
        let options = CleanupOptions {
            kinds: kinds.map(|kinds| kinds.iter().map(|kind| wire::item_kind(*kind)).collect()),
            older_than: Duration::from_secs(request.older_than_s),
        };
        let storage = self.storage();
        let done = if request.dry_run { storage.plan_cleanup(&options) } else { storage.cleanup(&options) };
        Ok(wire::cleanup(done, request.dry_run))
    }

    fn storage(&self) -> Storage {
        let reference = |config: &ModelConfig| {
            config.path.as_ref().map(|path| Reference { id: config.id.clone(), path: path.clone() })
        };
        Storage::new(
            self.library.clone(),
            &self.programs,
            self.settings.iter().filter_map(reference).collect(),
        )
    }

    fn source(&self, source: protocol::ImportSource, path: Option<&str>) -> Result<ImportSource, ApiError> {
        let path = path.map(PathBuf::from);
        if path.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(ApiError::invalid("path", "the path must be absolute"));
        }
        let usual = |found: Option<&std::path::Path>, name: &str| {
            let missing = || {
                let message =
                    format!("{name}'s models were not found on this machine; say where they are with `path`");
                ApiError::new(ErrorCode::NotFound, message).with_param("path")
            };
            path.clone().or_else(|| found.map(PathBuf::from)).ok_or_else(missing)
        };
        Ok(match source {
            protocol::ImportSource::Path => {
                let missing = || ApiError::invalid("path", "name the file or folder to import");
                ImportSource::Path(path.ok_or_else(missing)?)
            }
            protocol::ImportSource::HuggingFace if path.is_some() => {
                let message =
                    "the Hugging Face cache is where HF_HOME says; import another one with the source `path`";
                return Err(ApiError::unsupported("path", message));
            }
            protocol::ImportSource::HuggingFace => ImportSource::HuggingFace,
            protocol::ImportSource::LmStudio => {
                ImportSource::LmStudio(usual(self.programs.lm_studio(), "LM Studio")?)
            }
            protocol::ImportSource::Ollama => ImportSource::Ollama(usual(self.programs.ollama(), "Ollama")?),
        })
    }

    /// Models by the names that requests use: those that the settings name by their path, and `found`.
    fn named(&self, found: Vec<LocalModel>) -> Vec<Named> {
        let by_path = self.settings.iter().filter_map(|config| {
            let model = self.library.at_path(config.path.as_ref()?).ok()?;
            let (id, names) = (config.id.clone(), config.aliases.clone());
            Some(Named { id, names, model, context: config.context })
        });
        let by_path: Vec<Named> = by_path.collect();
        let found = found.into_iter().filter(|model| !by_path.iter().any(|named| named.id == model.id)).map(
            |model| {
                let own = self.settings.iter().find(|config| config.id == model.id);
                let stands_for = |config: &&ModelConfig| config.repo.as_deref() == Some(&model.id);
                let others = self.settings.iter().filter(stands_for);
                let names = others.flat_map(|config| [&config.id].into_iter().chain(&config.aliases));
                let aliases = own.into_iter().flat_map(|config| &config.aliases);
                Named {
                    id: model.id.clone(),
                    names: aliases.chain(names).cloned().collect(),
                    context: own.and_then(|config| config.context),
                    model,
                }
            },
        );
        let found: Vec<Named> = found.collect();
        by_path.into_iter().chain(found).collect()
    }

    /// The model of this id or alias, else the one that the library finds by the name.
    fn find(&self, id: &str) -> Result<Named, ApiError> {
        self.find_exactly(id).or_else(|_| {
            let model = self.library.find(id)?;
            let mut named = self.named(vec![model]);
            named
                .pop()
                .ok_or_else(|| ApiError::new(ErrorCode::ModelNotFound, format!("there is no model `{id}`")))
        })
    }

    /// The model of exactly this id or alias: what is deleted is not guessed.
    fn find_exactly(&self, id: &str) -> Result<Named, ApiError> {
        let all = self.named(self.library.scan());
        let by_id = all.iter().find(|named| named.id == id);
        let by_name = || all.iter().find(|named| named.names.iter().any(|name| name == id));
        match by_id.or_else(by_name) {
            Some(named) => Ok(named.clone()),
            None => {
                let error = self.library.find(id).map_or_else(ApiError::from, |near| {
                    let message =
                        format!("there is no model `{id}` on this machine; did you mean {}?", near.id);
                    ApiError::new(ErrorCode::ModelNotFound, message)
                });
                Err(error.with_param("id"))
            }
        }
    }
}

impl From<RemoveError> for ApiError {
    fn from(error: RemoveError) -> Self {
        Self::new(ErrorCode::Conflict, error.to_string())
    }
}

impl From<ImportError> for ApiError {
    fn from(error: ImportError) -> Self {
        let message = error.to_string();
        match error {
            ImportError::NoSource { .. } => Self::invalid("path", message),
            ImportError::NoModel { .. } => Self::invalid("models", message),
            ImportError::Name { .. } => Self::invalid("id", message),
            ImportError::Settings(error) => error.into(),
            _ => Self::new(ErrorCode::InvalidValue, message),
        }
    }
}

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        let code = match error {
            SettingsError::Invalid { .. } => ErrorCode::Conflict,
            _ => ErrorCode::EngineError,
        };
        Self::new(code, error.to_string())
    }
}
