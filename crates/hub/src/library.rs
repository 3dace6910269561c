//! `Library`: every model that can be found on this machine, and the rules by which a name finds one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::candidate::{self, Candidate};
use crate::config::LibraryConfig;
use crate::local::{LocalModel, Source};
use crate::lookup;

/// No model goes by this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct NotFound {
    /// What was asked for.
    pub id: String,
    /// What is known about it all the same: files missing, a folder without a model.
    pub reason: Option<String>,
    /// Ids that exist and look like it, best first.
    pub suggestions: Vec<String>,
}

impl NotFound {
    fn message(&self) -> String {
        let mut text = format!("there is no model `{}` on this machine", self.id);
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        if !self.suggestions.is_empty() {
            text.push_str(&format!("; did you mean {}?", self.suggestions.join(", or ")));
        }
        text
    }
}

/// The models on this machine. Cheap to make and to clone: it holds folders' names, nothing is cached.
#[derive(Debug, Clone)]
pub struct Library {
    config: LibraryConfig,
}

/// A model that lacks files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// What it would be called.
    pub id: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Where it was found.
    pub source: Source,
    /// Names of the files that are missing, at most eight of a split model.
    pub missing: Vec<String>,
}

/// A scan's result: what can be loaded, and what is not all there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// What can be loaded.
    pub models: Vec<LocalModel>,
    /// What lacks files.
    pub incomplete: Vec<Incomplete>,
}

impl Library {
    /// A library over these folders. They need not exist.
    pub fn new(config: LibraryConfig) -> Self {
        Self { config }
    }

    /// All complete models: those of the user's folders first, then Perch's own, then the Hugging Face cache; within
    /// each by path. The same file reached by two ways is listed once. Reads folders and small JSON files only.
    pub fn scan(&self) -> Vec<LocalModel> {
        self.survey().models
    }

    /// The model of this name: exactly, then without regard to case, then as the last part of a hub id, then as a
    /// repository whose best file is meant. Never looks at a path, so a name from a request cannot reach outside the
    /// library's folders.
    pub fn find(&self, id: &str) -> Result<LocalModel, NotFound> {
        let survey = self.survey();
        if let Some(model) = lookup::pick(&survey.models, id) {
            return Ok(model.clone());
        }
        let incomplete = survey.incomplete.iter().find(|model| model.id.eq_ignore_ascii_case(id));
        let reason = incomplete
            .map(|model| format!("files are missing ({}); download it again", model.missing.join(", ")));
        Err(NotFound {
            id: lookup::printable(id),
            reason,
            suggestions: lookup::suggestions(&survey.models, id),
        })
    }

    /// As [`Library::find`], or a path to a file or folder: for what the user of this machine typed, not for requests.
    /// A name wins over a path, unless it begins like one (`/`, `./`, `../`, `~/`).
    pub fn resolve(&self, id: &str) -> Result<LocalModel, NotFound> {
        let path = expand_home(id);
        let plainly_a_path = path.is_absolute() || id.starts_with("./") || id.starts_with("../");
        if plainly_a_path {
            return self.at_path(&path);
        }
        self.find(id).or_else(|not_found| if path.exists() { self.at_path(&path) } else { Err(not_found) })
    }

    /// The model that a file or folder is, by the file's or folder's own name.
    pub fn at_path(&self, path: &Path) -> Result<LocalModel, NotFound> {
        let not_found = |reason: String| NotFound {
            id: path.display().to_string(),
            reason: Some(reason),
            suggestions: Vec::new(),
        };
        let real = path.canonicalize().map_err(|error| not_found(error.to_string()))?;
        let mut found = if real.is_dir() { candidate::in_folder(path) } else { candidate::in_file(path) };
        if found.len() > 1 {
            let files: Vec<String> =
                found.iter().map(|c| format!("`{}`", c.weights.path.display())).take(8).collect();
            return Err(not_found(format!("it holds several models; name one of {}", files.join(", "))));
        }
        let Some(candidate) = found.pop() else {
            return Err(not_found(
                "it is neither a .gguf file nor a folder with config.json and safetensors".into(),
            ));
        };
        if !candidate.weights.missing.is_empty() {
            return Err(not_found(format!("files are missing ({})", candidate.weights.missing.join(", "))));
        }
        let id = candidate.names[0].clone();
        Ok(candidate.weights.into_model(id, Source::Path, candidate.repo))
    }

    /// The folders it looks into.
    pub fn config(&self) -> &LibraryConfig {
        &self.config
    }

    /// Everything in its folders, also what is reached twice.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for dir in &self.config.models_dirs {
            candidates.extend(candidate::in_models_dir(dir, Source::ModelsDir));
        }
        candidates.extend(candidate::in_models_dir(&self.config.data_dir.join("models"), Source::DataDir));
        if let Some(hub) = self.config.hub_cache() {
            candidates.extend(candidate::in_cache(&hub));
        }
        candidates
    }

    /// As [`Library::scan`], with what is not all there.
    pub fn survey(&self) -> Survey {
        let mut candidates = self.candidates();
        // What can be loaded has the first choice of names.
        candidates.sort_by_key(|candidate| !candidate.weights.missing.is_empty());
        let mut files = HashSet::new();
        let mut ids = HashSet::new();
        let mut survey = Survey::default();
        for candidate in candidates {
            let real = candidate.weights.files[0].canonicalize().ok();
            if real.is_some_and(|real| !files.insert(real)) {
                continue;
            }
            let id = unique(&candidate.names, &mut ids);
            if candidate.weights.missing.is_empty() {
                survey.models.push(candidate.weights.into_model(id, candidate.source, candidate.repo));
            } else {
                let Candidate { weights, source, .. } = candidate;
                survey.incomplete.push(Incomplete {
                    id,
                    path: weights.path,
                    source,
                    missing: weights.missing,
                });
            }
        }
        survey
    }
}

/// The first of `names` that is free, else the first with a number: two copies of one model both stay reachable.
fn unique(names: &[String], taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|n| format!("{}@{n}", names[0]));
    let mut candidates = names.iter().cloned().chain(numbered);
    candidates.find(|name| taken.insert(name.to_ascii_lowercase())).expect("the numbers do not end")
}

fn expand_home(id: &str) -> PathBuf {
    match (id.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(id),
    }
}
