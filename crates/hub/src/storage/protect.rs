//! `Protected`: the entries (files, links, folders) that the models of a library need.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::paths::{hops, real_entry};
use super::{Reference, Storage};
use crate::candidate::{self, Candidate};
use crate::local::LocalModel;
use crate::names;

/// What models need, with the name of one model that needs it.
#[derive(Debug, Default)]
pub(crate) struct Protected {
    entries: HashMap<PathBuf, String>,
}

impl Protected {
    /// The model that needs this entry (a file, link or folder by its real path).
    pub(crate) fn entry(&self, path: &Path) -> Option<&str> {
        self.entries.get(path).map(String::as_str)
    }

    fn add(&mut self, path: &Path, model: &str) {
        for hop in hops(path) {
            self.entries.entry(hop).or_insert_with(|| model.to_owned());
        }
    }

    /// A model's weights; for a checkpoint also the files that lie beside them, other models not counted.
    fn add_model(&mut self, candidate: &Candidate, name: &str) {
        for file in &candidate.weights.files {
            self.add(file, name);
        }
        if candidate.weights.stem.is_some() {
            return;
        }
        self.add(&candidate.weights.path, name);
        for entry in fs::read_dir(&candidate.weights.path).into_iter().flatten().flatten() {
            let another = entry.file_name().to_str().is_some_and(|name| names::gguf_stem(name).is_some());
            if !another && entry.path().is_file() {
                self.add(&entry.path(), name);
            }
        }
    }
}

impl Storage {
    /// What every model needs but the one at `model`'s place, called `name`, and those at `leaving`. Incomplete models
    /// count as well: what is there of them need not be downloaded again.
    pub(crate) fn protected(&self, name: &str, leaving: &[PathBuf], model: &LocalModel) -> Protected {
        let leaving = leaving.iter().chain([&model.path]).filter_map(|path| real_entry(path)).collect();
        self.protected_but(|reference| reference.id == name, &leaving)
    }

    /// What all models need.
    pub(crate) fn all_protected(&self) -> Protected {
        self.protected_but(|_| false, &HashSet::new())
    }

    fn protected_but(&self, leaves: impl Fn(&Reference) -> bool, leaving: &HashSet<PathBuf>) -> Protected {
        let mut protected = Protected::default();
        let stays = |candidate: &&Candidate| {
            real_entry(&candidate.weights.path).is_none_or(|entry| !leaving.contains(&entry))
        };
        for candidate in self.library.candidates().iter().filter(stays) {
            protected.add_model(candidate, &candidate.names[0]);
        }
        for reference in self.all_references().iter().filter(|reference| !leaves(reference)) {
            let found = match reference.path.is_dir() {
                true => candidate::in_folder(&reference.path),
                false => candidate::in_file(&reference.path),
            };
            for candidate in &found {
                protected.add_model(candidate, &reference.id);
            }
        }
        protected
    }
}
