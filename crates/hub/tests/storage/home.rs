//! `Home`: a home folder with every store that there is, in a temporary folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use perch_hub::{
    Checked, ImportOptions, ImportReport, ImportSource, Library, LibraryConfig, LocalModel, Programs,
    Reference, Removal, RemoveOptions, Storage,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) struct Home {
    dir: TempDir,
    pub(crate) references: Vec<Reference>,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), references: Vec::new() }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(path)
    }

    pub(crate) fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A file that begins as a GGUF file does.
    pub(crate) fn gguf(&self, path: &str, text: &str) -> PathBuf {
        self.file(path, &format!("GGUF{text}"))
    }

    /// A folder with a config and weights.
    pub(crate) fn checkpoint(&self, path: &str, text: &str) -> PathBuf {
        self.file(&format!("{path}/config.json"), "{}");
        self.file(&format!("{path}/tokenizer.json"), "{}");
        self.file(&format!("{path}/model.safetensors"), text);
        self.path(path)
    }

    /// A file of a revision in the Hugging Face cache: a blob named by its content, and a link to it.
    pub(crate) fn cached(&self, repo: &str, revision: &str, file: &str, text: &str) -> PathBuf {
        let repo = format!("hf/hub/models--{}", repo.replace('/', "--"));
        let digest = sha256(text);
        self.file(&format!("{repo}/blobs/{digest}"), text);
        let link = self.path(&format!("{repo}/snapshots/{revision}/{file}"));
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        let up = "../".repeat(2 + file.matches('/').count());
        let _ = fs::remove_file(&link);
        symlink(format!("{up}blobs/{digest}"), &link).unwrap();
        link
    }

    pub(crate) fn blob(&self, repo: &str, text: &str) -> PathBuf {
        self.path(&format!("hf/hub/models--{}/blobs/{}", repo.replace('/', "--"), sha256(text)))
    }

    pub(crate) fn main(&self, repo: &str, revision: &str) {
        self.file(&format!("hf/hub/models--{}/refs/main", repo.replace('/', "--")), revision);
    }

    /// A model of Ollama's: `library/llama3.2/3b`, with layers of these kinds and contents.
    pub(crate) fn ollama(&self, name: &str, layers: &[(&str, &str)]) -> PathBuf {
        let mut listed = Vec::new();
        for (kind, text) in layers {
            let digest = sha256(text);
            self.file(&format!("ollama/models/blobs/sha256-{digest}"), text);
            let kind = format!("application/vnd.ollama.image.{kind}");
            listed.push(serde_json::json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": text.len()}));
        }
        let config = sha256("{}");
        self.file(&format!("ollama/models/blobs/sha256-{config}"), "{}");
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": format!("sha256:{config}"), "size": 2},
            "layers": listed,
        });
        self.file(&format!("ollama/models/manifests/registry.ollama.ai/{name}"), &manifest.to_string())
    }

    /// Makes everything look as if it was written long ago, links included.
    pub(crate) fn age(&self) {
        let mut old = Command::new("find");
        old.arg(self.dir.path()).args(["-exec", "touch", "-h", "-t", "202001010000", "{}", "+"]);
        assert!(old.status().unwrap().success());
    }

    pub(crate) fn library(&self) -> Library {
        Library::new(LibraryConfig {
            models_dirs: vec![self.path("models")],
            hf_home: Some(self.path("hf")),
            data_dir: self.path("data"),
        })
    }

    pub(crate) fn storage(&self) -> Storage {
        let programs = Programs {
            lm_studio: vec![self.path("lmstudio/models")],
            ollama: vec![self.path("ollama/models")],
        };
        Storage::new(self.library(), &programs, self.references.clone())
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.library().scan().into_iter().map(|model| model.id).collect()
    }

    pub(crate) fn model(&self, id: &str) -> LocalModel {
        let all = self.library().scan();
        all.iter()
            .find(|model| model.id == id)
            .unwrap_or_else(|| panic!("no {id} in {:?}", self.ids()))
            .clone()
    }

    pub(crate) fn remove(&self, id: &str) -> Removal {
        self.remove_with(id, RemoveOptions::default())
    }

    pub(crate) fn remove_with(&self, id: &str, options: RemoveOptions) -> Removal {
        let removal = self.storage().remove(id, &self.model(id), options).unwrap();
        for item in &removal.items {
            assert!(item.removed && item.error.is_none(), "{item:?}");
        }
        removal
    }

    pub(crate) fn import(&self, source: &ImportSource, options: &ImportOptions) -> ImportReport {
        self.storage().import(source, options, &check).unwrap()
    }

    /// Every file and link below the home, by its path in it.
    pub(crate) fn everything(&self) -> Vec<String> {
        let root = self.path("");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path().strip_prefix(&root).unwrap().display().to_string()),
                }
            }
        }
        found.sort();
        found
    }
}

/// A model is what begins with GGUF, or has a config.
pub(crate) fn check(path: &Path) -> Result<Checked, String> {
    let good = match path.is_dir() {
        true => path.join("config.json").is_file(),
        false => fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"GGUF")),
    };
    if good { Ok(Checked { context_length: Some(32_768) }) } else { Err("it is damaged".to_owned()) }
}

pub(crate) fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
