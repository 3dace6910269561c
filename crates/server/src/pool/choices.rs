//! `Choices`: what the user of this machine chose while the server ran, kept in `choices.json` in the data folder: the
//! default model, and which models are pinned.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use perch_protocol::ErrorCode;
use serde::{Deserialize, Serialize};

use crate::error::ApiError;

const FILE: &str = "choices.json";

/// What was chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Chosen {
    /// The model that answers requests which name none.
    pub(super) default_model: Option<String>,
    /// Pins that were set or taken away, over what the configuration says.
    pub(super) pins: BTreeMap<String, bool>,
}

/// The default model that the user of `data_dir` chose, if any. For programs that ask without a server; reads a small file.
pub fn chosen_default(data_dir: &Path) -> Option<String> {
    Choices::open(data_dir).get().default_model
}

/// What was chosen, and the file it is kept in.
#[derive(Debug)]
pub(super) struct Choices {
    path: PathBuf,
    chosen: Mutex<Chosen>,
}

impl Choices {
    /// Those of a data folder. A file that cannot be read counts as none, and is written anew with the next choice.
    pub(super) fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let chosen = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Chosen::default()),
            Err(error) => Err(error.to_string()),
        };
        let chosen = chosen.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), "the choices of the user cannot be read: {error}");
            Chosen::default()
        });
        Self { path, chosen: Mutex::new(chosen) }
    }

    /// What is chosen now.
    pub(super) fn get(&self) -> Chosen {
        self.chosen.lock().clone()
    }

    /// Changes what is chosen, on the disk first. Blocks.
    pub(super) fn change(&self, change: impl FnOnce(&mut Chosen)) -> Result<(), ApiError> {
        // Held meanwhile, so that of two changes neither is lost.
        let mut chosen = self.chosen.lock();
        let mut next = chosen.clone();
        change(&mut next);
        if next != *chosen {
            self.write(&next).map_err(|error| {
                let message = format!("the choice cannot be kept in {}: {error}", self.path.display());
                ApiError::new(ErrorCode::EngineError, message)
            })?;
            *chosen = next;
        }
        Ok(())
    }

    /// Writes beside the file and renames, so that it is whole whatever happens.
    fn write(&self, chosen: &Chosen) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = self.path.with_extension("json.new");
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(chosen)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_there_again_and_a_damaged_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let choices = Choices::open(&folder);
        assert_eq!(choices.get(), Chosen::default());
        choices.change(|chosen| chosen.default_model = Some("a/b".into())).unwrap();
        choices.change(|chosen| chosen.pins.extend([("c".into(), true)])).unwrap();
        let again = Choices::open(&folder);
        assert_eq!(again.get(), choices.get());
        assert_eq!(again.get().default_model.as_deref(), Some("a/b"));

        std::fs::write(folder.join(FILE), "{\"default_model\": ").unwrap();
        let damaged = Choices::open(&folder);
        assert_eq!(damaged.get(), Chosen::default());
        damaged.change(|chosen| chosen.default_model = Some("d".into())).unwrap();
        assert_eq!(Choices::open(&folder).get().default_model.as_deref(), Some("d"));
    }
}
