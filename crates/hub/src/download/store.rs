//! `Store`: the downloads that are not finished, remembered over restarts in a small JSON file.
//!
//! What is read is checked like an answer of a server: names become paths.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cache::write_whole;
use super::plan::{Plan, PlanFile};
use crate::remote::{BadName, BlobName, Commit, RepoId, RepoPath, Revision};

/// Where unfinished downloads are remembered; nowhere for a command that ends with its download.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    path: Option<PathBuf>,
}

/// A download as it is remembered.
#[derive(Debug)]
pub(crate) struct Remembered {
    pub(crate) id: String,
    pub(crate) created_at: SystemTime,
    /// Whether it stood still.
    pub(crate) paused: bool,
    pub(crate) plan: Plan,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    downloads: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    created_at: u64,
    paused: bool,
    repo: String,
    revision: String,
    commit: String,
    model: String,
    quantization: Option<String>,
    files: Vec<Item>,
    others: Vec<Item>,
}

#[derive(Serialize, Deserialize)]
struct Item {
    path: String,
    size: u64,
    blob: String,
}

impl Store {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// What is remembered. A file that cannot be read is set aside and nothing is remembered. Blocks.
    pub(crate) fn load(&self) -> Vec<Remembered> {
        let Some(path) = &self.path else { return Vec::new() };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "unfinished downloads cannot be read");
                return Vec::new();
            }
        };
        match serde_json::from_slice::<Content>(&text) {
            Ok(content) => content.downloads.into_iter().filter_map(|entry| entry.checked(path)).collect(),
            Err(error) => {
                let aside = path.with_extension("damaged.json");
                tracing::warn!(path = %path.display(), aside = %aside.display(), %error, "unfinished downloads are forgotten");
                let _ = fs::rename(path, aside);
                Vec::new()
            }
        }
    }

    /// Remembers these and no others. Blocks.
    pub(crate) fn save(&self, downloads: &[Remembered]) {
        let Some(path) = &self.path else { return };
        let content = Content { downloads: downloads.iter().map(Entry::from).collect() };
        let written = serde_json::to_vec_pretty(&content).map_err(io::Error::other);
        if let Err(error) = written.and_then(|text| write_whole(path, &text)) {
            tracing::warn!(path = %path.display(), %error, "unfinished downloads cannot be remembered");
        }
    }
}

impl From<&Remembered> for Entry {
    fn from(known: &Remembered) -> Self {
        let plan = &known.plan;
        let items = |files: &[PlanFile]| {
            let item = |file: &PlanFile| Item {
                path: file.path.to_string(),
                size: file.size,
                blob: file.blob.to_string(),
            };
            files.iter().map(item).collect()
        };
        Self {
            id: known.id.clone(),
            created_at: known.created_at.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            paused: known.paused,
            repo: plan.repo.to_string(),
            revision: plan.revision.to_string(),
            commit: plan.commit.to_string(),
            model: plan.model.clone(),
            quantization: plan.quantization.clone(),
            files: items(&plan.files),
            others: items(&plan.others),
        }
    }
}

impl Entry {
    fn checked(self, path: &Path) -> Option<Remembered> {
        let id = self.id.clone();
        let plan = self.plan().inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "an unfinished download is forgotten");
        });
        let known = UNIX_EPOCH + Duration::from_secs(self.created_at);
        plan.ok().filter(|plan| !plan.files.is_empty()).map(|plan| Remembered {
            id,
            created_at: known,
            paused: self.paused,
            plan,
        })
    }

    fn plan(&self) -> Result<Plan, BadName> {
        let files = |items: &[Item]| -> Result<Vec<PlanFile>, BadName> {
            let file = |item: &Item| {
                Ok(PlanFile {
                    path: RepoPath::new(&item.path)?,
                    size: item.size,
                    blob: BlobName::new(&item.blob)?,
                })
            };
            items.iter().map(file).collect()
        };
        Ok(Plan {
            repo: RepoId::new(&self.repo)?,
            revision: Revision::new(&self.revision)?,
            commit: Commit::new(&self.commit)?,
            model: self.model.clone(),
            quantization: self.quantization.clone(),
            files: files(&self.files)?,
            others: files(&self.others)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(path: &str) -> Remembered {
        let file = PlanFile {
            path: RepoPath::new(path).unwrap(),
            size: 5,
            blob: BlobName::new(&"a".repeat(64)).unwrap(),
        };
        Remembered {
            id: "1".into(),
            created_at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            paused: true,
            plan: Plan {
                repo: RepoId::new("o/m").unwrap(),
                revision: Revision::default(),
                commit: Commit::new(&"b".repeat(40)).unwrap(),
                model: "o/m:Q4_K_M".into(),
                quantization: Some("Q4_K_M".into()),
                files: vec![file],
                others: Vec::new(),
            },
        }
    }

    #[test]
    fn what_is_remembered_comes_back_and_what_was_tampered_with_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/downloads.json");
        let store = Store::new(Some(path.clone()));
        assert!(store.load().is_empty());
        store.save(&[known("m.gguf")]);
        let back = store.load();
        assert_eq!(back.len(), 1);
        assert_eq!((&back[0].plan, back[0].paused), (&known("m.gguf").plan, true));

        let tampered = fs::read_to_string(&path).unwrap().replace("m.gguf", "../../m.gguf");
        fs::write(&path, tampered).unwrap();
        assert!(store.load().is_empty());
        fs::write(&path, "{").unwrap();
        assert!(store.load().is_empty() && path.with_extension("damaged.json").exists());
    }
}
