//! `FactsCache`: what opening models told, kept until their files change, so that a list need not open them again.
//!
//! The key is a model's path; what counts is that size and time of all its files are as they were, and that the same
//! version of Perch asks. The cache can be deleted at any time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::local::LocalModel;

/// Longest cache file that is read; a model takes about 500 bytes.
const MAX_FILE: u64 = 64 << 20;
/// Models that are remembered.
const MAX_MODELS: usize = 20_000;
/// Files beside the weights of a checkpoint that facts are read from.
const BESIDE: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",
];

/// What opening a model told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// As the model names it.
    pub architecture: Option<String>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// As users know it.
    pub quantization: Option<String>,
    /// Longest context in tokens that it was made for.
    pub context_length: Option<u64>,
    /// Its licence, where its files name one.
    pub license: Option<String>,
    /// Whether it has a chat template.
    pub chat_template: bool,
    /// Bytes of its weights once loaded.
    pub weight_bytes: u64,
    /// Bytes of KV for one token.
    pub kv_bytes_per_token: u64,
    /// Why it cannot be run: an error code and a sentence.
    pub problem: Option<(String, String)>,
}

/// Whether a model's bytes are what its publisher put out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Nobody has compared them.
    #[default]
    Unverified,
    /// They agree with the publisher's checksums.
    Verified,
    /// They differ.
    Damaged,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    stamp: String,
    #[serde(default)]
    facts: Option<Facts>,
    #[serde(default)]
    verification: Verification,
}

#[derive(Default, Serialize, Deserialize)]
struct Stored {
    version: String,
    models: HashMap<PathBuf, Entry>,
}

/// What is known about models, in memory and on the disk.
#[derive(Debug)]
pub struct FactsCache {
    path: PathBuf,
    version: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    models: HashMap<PathBuf, Entry>,
    changed: bool,
}

impl FactsCache {
    /// The cache at `path`, for this version of Perch; empty where there is no such file, or another version's.
    pub fn open(path: PathBuf, version: &str) -> Self {
        let stored: Stored = crate::folder::read_json(&path, MAX_FILE).unwrap_or_default();
        let models = if stored.version == version { stored.models } else { HashMap::new() };
        Self { path, version: version.to_owned(), state: Mutex::new(State { models, changed: false }) }
    }

    /// What is known about each of `models`, in their order; `inspect` opens those that are new or have changed, on
    /// several threads. Blocks. Writes the cache if it has changed.
    pub fn facts(
        &self,
        models: &[LocalModel],
        inspect: impl Fn(&Path) -> Facts + Sync,
    ) -> Vec<(Facts, Verification)> {
        let stamps: Vec<String> = models.iter().map(stamp).collect();
        let known: Vec<Option<(Facts, Verification)>> = {
            let state = self.lock();
            let entry = |(model, stamp): (&LocalModel, &String)| {
                let entry = state.models.get(&model.path).filter(|entry| entry.stamp == *stamp)?;
                Some((entry.facts.clone()?, entry.verification))
            };
            models.iter().zip(&stamps).map(entry).collect()
        };
        let new: Vec<usize> = (0..models.len()).filter(|&at| known[at].is_none()).collect();
        let opened = in_parallel(&new, |at| inspect(&models[at].path));
        let mut result: Vec<_> = known.into_iter().map(Option::unwrap_or_default).collect();
        {
            let mut state = self.lock();
            for (at, facts) in new.into_iter().zip(opened) {
                let verification =
                    state.remember(&models[at].path, &stamps[at], |entry| entry.facts = Some(facts.clone()));
                result[at] = (facts, verification);
            }
        }
        self.save();
        result
    }

    /// Compares a model's bytes with the checksums that its store keeps, and remembers what came of it. Reads all of
    /// them. Blocks.
    pub fn verify(&self, model: &LocalModel) -> Verification {
        let (before, verification) = (stamp(model), compare(model));
        // What changed while it was read is not verified.
        let verification = if stamp(model) == before { verification } else { Verification::Unverified };
        self.lock().remember(&model.path, &before, |entry| entry.verification = verification);
        self.save();
        verification
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whole or not at all. A cache that cannot be written is no reason to fail.
    fn save(&self) {
        let mut state = self.lock();
        if !std::mem::take(&mut state.changed) {
            return;
        }
        if state.models.len() > MAX_MODELS {
            state.models.retain(|path, _| path.exists());
        }
        let stored = Stored { version: self.version.clone(), models: state.models.clone() };
        drop(state);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(&stored)?)?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        });
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "what is known about models is not kept");
        }
    }
}

impl State {
    /// Changes the entry of a model, which loses what it said about other bytes.
    fn remember(&mut self, path: &Path, stamp: &str, change: impl FnOnce(&mut Entry)) -> Verification {
        let fresh = || Entry { stamp: stamp.to_owned(), facts: None, verification: Verification::default() };
        let entry = self.models.entry(path.to_owned()).or_insert_with(fresh);
        if entry.stamp != stamp {
            *entry = fresh();
        }
        change(entry);
        self.changed = true;
        entry.verification
    }
}

/// `f` of each, on as many threads as there are cores.
fn in_parallel<T: Send>(items: &[usize], f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads <= 1 {
        return items.iter().map(|&item| f(item)).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = f(item);
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((item, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(item, _)| *item);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Size and time of every file that facts are read from.
fn stamp(model: &LocalModel) -> String {
    let beside = BESIDE.iter().filter(|_| model.path.is_dir()).map(|name| model.path.join(name));
    let mut text = String::new();
    for file in model.files.iter().cloned().chain(beside) {
        let Ok(meta) = fs::metadata(&file) else {
            text.push_str("-;");
            continue;
        };
        let time = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        text.push_str(&format!("{}@{};", meta.len(), time.map_or(0, |time| time.as_nanos())));
    }
    text
}

/// The stores of the Hugging Face cache and of Ollama name files by their SHA-256; others keep no checksums.
fn compare(model: &LocalModel) -> Verification {
    let mut verification = Verification::Verified;
    for file in &model.files {
        let real = file.canonicalize().ok();
        let name =
            real.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let digest = name.strip_prefix("sha256-").unwrap_or(name);
        if digest.len() != 64 || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            verification = Verification::Unverified;
            continue;
        }
        match real.as_deref().map(sha256) {
            Some(Ok(actual)) if actual.eq_ignore_ascii_case(digest) => {}
            Some(Ok(_)) => return Verification::Damaged,
            _ => verification = Verification::Unverified,
        }
    }
    verification
}

fn sha256(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => hash.update(&buffer[..count]),
        }
    }
}
