//! Importing: models that lie elsewhere come into the library, by link, by reference or as a copy.
//!
//! Invariants: a model is checked where it is going to lie before it counts; it comes whole or not at all (links and
//! copies are made in a hidden folder and renamed into place, the first part of a split model last); what it was
//! imported from is never changed.

mod find;
mod place;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::local::Format;
use crate::profile::{Profile, Settings};
use crate::settings::{SettingsError, SettingsFile};
use crate::storage::Storage;
use crate::stores::OllamaParams;

/// What the folders begin with that imports are prepared in. Hidden, so that no library looks into them.
const STAGING: &str = ".import-";

/// Whether a folder is one that an import was prepared in.
pub(crate) fn is_staging(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(STAGING))
}

/// Where to import from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportSource {
    /// A GGUF file, a folder that is a model, or one that holds models.
    Path(PathBuf),
    /// The library's own Hugging Face cache.
    HuggingFace,
    /// LM Studio's models, in this folder.
    LmStudio(PathBuf),
    /// Ollama's models, in this folder.
    Ollama(PathBuf),
}

/// How the bytes come into the library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ImportMode {
    /// A link in Perch's folder.
    #[default]
    Link,
    /// An entry with the path in `models.toml`.
    Reference,
    /// A copy in Perch's folder.
    Copy,
}

/// What to import, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Names of the models that are meant; `None` means all.
    pub models: Option<Vec<String>>,
    /// What to call it, where it is one.
    pub id: Option<String>,
    /// How the bytes come into the library.
    pub mode: ImportMode,
    /// Settings to write.
    pub profile: Option<Profile>,
    /// Where to write settings, if not into the library's own `models.toml`.
    pub output: Option<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A model that could be imported.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What its own store calls it; unique among those found together.
    pub name: String,
    /// What the library would call it.
    pub id: String,
    /// The file or folder.
    pub from: PathBuf,
    /// How its weights are stored.
    pub format: Format,
    /// Its weights' files.
    pub files: Vec<PathBuf>,
    /// Bytes of these.
    pub size_bytes: u64,
    /// As names and `config.json` say.
    pub quantization: Option<String>,
    /// The library's id of a model with the same bytes.
    pub known_as: Option<String>,
    /// What cannot be taken over, in sentences.
    pub notes: Vec<String>,
    /// Why it cannot be imported.
    pub obstacle: Option<String>,
    /// Whether the library calls another model so.
    name_is_taken: bool,
    /// Where it would lie: folders below Perch's, and the names of its files.
    place: place::Place,
    params: OllamaParams,
}

/// A model that was imported, or would be.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// What was found.
    pub found: Found,
    /// What requests call it from now on.
    pub id: String,
    /// Where it lies in the library.
    pub path: PathBuf,
    /// How it came there.
    pub mode: ImportMode,
    /// What was written into `models.toml`.
    pub settings: Option<Settings>,
}

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportReport {
    /// What was imported, or would be.
    pub imported: Vec<Imported>,
    /// What was not, and why.
    pub skipped: Vec<(Found, String)>,
}

/// What is said about a model that was opened to see whether it is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Longest context in tokens that it was made for.
    pub context_length: Option<u64>,
}

/// Opens a model and validates it: what it is, or what is wrong with it.
pub type Check<'a> = dyn Fn(&Path) -> Result<Checked, String> + 'a;

/// Why nothing can be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// There is nothing where one was told to look.
    #[error("{}: {reason}", path.display())]
    NoSource {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A model was asked for that is not there.
    #[error("there is no `{name}` there; there are: {known}")]
    NoModel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The name cannot be given.
    #[error("`{id}` cannot be its name: {reason}")]
    Name {
        /// The name.
        id: String,
        /// Why not.
        reason: String,
    },
    /// The settings cannot be written.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl Storage {
    /// Imports models, each whole or not at all; what fails for one is no reason not to import the others. `check` opens
    /// a model. Blocks.
    ///
    /// # Errors
    /// [`ImportError`], before anything was imported.
    pub fn import(
        &self,
        source: &ImportSource,
        options: &ImportOptions,
        check: &Check<'_>,
    ) -> Result<ImportReport, ImportError> {
        let found = self.chosen(source, options)?;
        // Before anything is placed: a file that cannot be read cannot be added to either.
        let file = options.output.clone().map_or_else(|| self.settings_file(), SettingsFile::new);
        file.entries()?;
        let mut report = ImportReport::default();
        for found in found {
            match self.import_one(&found, options, &file, check) {
                Ok(imported) => report.imported.push(imported),
                Err(reason) => report.skipped.push((found, reason)),
            }
        }
        Ok(report)
    }

    /// The models that are meant, with the name that was asked for.
    fn chosen(&self, source: &ImportSource, options: &ImportOptions) -> Result<Vec<Found>, ImportError> {
        let mut found = self.find_models(source)?;
        if let Some(names) = &options.models {
            if let Some(name) = names.iter().find(|name| !found.iter().any(|found| found.name == **name)) {
                let known: Vec<&str> = found.iter().map(|found| found.name.as_str()).take(20).collect();
                return Err(ImportError::NoModel { name: name.clone(), known: known.join(", ") });
            }
            found.retain(|found| names.contains(&found.name));
        }
        let Some(id) = &options.id else { return Ok(found) };
        let wrong = |reason: &str| ImportError::Name { id: id.clone(), reason: reason.to_owned() };
        let [one] = found.as_mut_slice() else {
            return Err(wrong("it can be given to one model only; say which"));
        };
        if one.known_as.as_ref().is_none_or(|known| known != id) {
            if self.library.survey().models.iter().any(|model| model.id.eq_ignore_ascii_case(id))
                || self.settings_file().has(id)
            {
                return Err(wrong("another model has it"));
            }
            one.rename(id, options.mode).map_err(|reason| wrong(&reason))?;
        }
        Ok(found)
    }

    fn import_one(
        &self,
        found: &Found,
        options: &ImportOptions,
        file: &SettingsFile,
        check: &Check<'_>,
    ) -> Result<Imported, String> {
        if let Some(obstacle) = &found.obstacle {
            return Err(obstacle.clone());
        }
        if found.name_is_taken {
            return Err(format!("the library has another model `{}`; give this one another id", found.id));
        }
        let checked = check(&found.from).map_err(|reason| format!("it cannot be used: {reason}"))?;
        let settings = found.settings(options.profile, checked.context_length);
        let (id, path, mode) = match (&found.known_as, options.mode) {
            // Nothing to place: the library has it, and only its settings are of interest.
            (Some(known), _) if options.output.is_none() => {
                if settings.is_empty() {
                    return Err(format!("it is in the library already, as `{known}`"));
                }
                (known.clone(), found.from.clone(), ImportMode::Reference)
            }
            (_, ImportMode::Reference) => (found.id.clone(), found.from.clone(), ImportMode::Reference),
            (_, mode) => (found.id.clone(), found.place.path(&self.own_folder()), mode),
        };
        let named = mode == ImportMode::Reference && (found.known_as.is_none() || options.output.is_some());
        let settings = Settings { path: named.then(|| found.from.clone()), ..settings };
        let settings = Some(settings).filter(|settings| !settings.is_empty());
        if options.dry_run {
            if mode != ImportMode::Reference {
                found.place.is_free(&self.own_folder())?;
            }
            return Ok(Imported { found: found.clone(), id, path, mode, settings });
        }
        let placed = match mode {
            ImportMode::Reference => None,
            mode => Some(place::place(&self.own_folder(), found, mode, check)?),
        };
        if let Some(settings) = &settings
            && let Err(error) = file.set(&id, settings)
        {
            if let Some(placed) = placed {
                placed.undo();
            }
            return Err(format!("its settings cannot be written: {error}"));
        }
        Ok(Imported { found: found.clone(), id, path, mode, settings })
    }

    fn own_folder(&self) -> PathBuf {
        self.library.config().data_dir.join("models")
    }
}

impl Found {
    /// What a profile and the model's own store say about how to run it.
    fn settings(&self, profile: Option<Profile>, context: Option<u64>) -> Settings {
        let settings = profile.map(|profile| profile.settings(&self.as_model(), context)).unwrap_or_default();
        settings.or_ollama(&self.params)
    }

    fn as_model(&self) -> crate::LocalModel {
        crate::LocalModel {
            id: self.id.clone(),
            path: self.from.clone(),
            format: self.format,
            size_bytes: self.size_bytes,
            files: self.files.clone(),
            source: crate::Source::Path,
            repo: None,
            quantization: self.quantization.clone(),
            modified: None,
        }
    }
}
