//! Ollama: `manifests/<host>/<owner>/<model>/<tag>` name layers by digest, and `blobs/sha256-<hex>` hold them.
//!
//! A model's GGUF file is the layer of type `…image.model`; it is used where it lies. What its `params` layer says is
//! read; its template is written in Go's language, and the GGUF's own is used in its place.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::folder::read_json;
use crate::names;

/// Longest manifest or parameter layer that is read.
const MAX_JSON: u64 = 1 << 20;
/// Manifests that are looked at.
const MAX_MANIFESTS: usize = 10_000;
/// The host and owner that Ollama leaves out of a name.
const HOST: &str = "registry.ollama.ai";
const OWNER: &str = "library";

/// A model of Ollama's.
#[derive(Debug, Clone, PartialEq)]
pub struct OllamaModel {
    /// What Ollama calls it: `llama3.2:3b`, `hf.co/org/name:Q4_K_M`.
    pub name: String,
    /// What Perch would call it: `llama3.2-3b`, `org/name:Q4_K_M`.
    pub id: String,
    /// The file that names its layers.
    pub manifest: PathBuf,
    /// The GGUF file.
    pub weights: PathBuf,
    /// Digests of all its layers, as the blobs' file names: `sha256-…`.
    pub blobs: Vec<String>,
    /// What it is run with.
    pub params: OllamaParams,
    /// What cannot be taken over, in sentences.
    pub notes: Vec<String>,
    /// Why it cannot be used.
    pub obstacle: Option<String>,
}

/// The keys of a `params` layer that Perch has as well.
const TAKEN_OVER: [&str; 9] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "num_ctx",
    "num_predict",
];

/// What a `params` layer may say. Others of its keys belong to Ollama's own runner.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[allow(missing_docs)]
pub struct OllamaParams {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub num_ctx: Option<u64>,
    pub num_predict: Option<i64>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Option<Layer>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
}

impl Manifest {
    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Layer> {
        self.layers.iter().filter(move |layer| layer.kind() == kind)
    }
}

impl Layer {
    /// The name of its blob: `sha256-` and 64 hexadecimal digits, or `None` for anything else.
    fn blob(&self) -> Option<String> {
        let hex = self.digest.strip_prefix("sha256:").or_else(|| self.digest.strip_prefix("sha256-"))?;
        let valid = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        valid.then(|| format!("sha256-{}", hex.to_ascii_lowercase()))
    }

    fn kind(&self) -> &str {
        self.media_type.strip_prefix("application/vnd.ollama.image.").unwrap_or_default()
    }
}

/// All models, by name. A manifest that cannot be read is passed over.
pub(super) fn models(root: &Path) -> Vec<OllamaModel> {
    let mut models: Vec<OllamaModel> =
        manifests(root).iter().filter_map(|manifest| read(root, manifest)).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

/// See [`super::ollama_references`].
pub(super) fn references(root: &Path) -> Option<HashSet<String>> {
    let mut digests = HashSet::new();
    for path in manifests(root) {
        let manifest: Manifest = read_json(&path, MAX_JSON)?;
        for layer in manifest.layers.iter().chain(&manifest.config) {
            digests.insert(layer.blob()?);
        }
    }
    Some(digests)
}

/// Files four levels below `manifests`. Hidden ones are other programs' notes.
fn manifests(root: &Path) -> Vec<PathBuf> {
    let mut level = vec![root.join("manifests")];
    for depth in 0..4 {
        let mut next = Vec::new();
        for dir in &level {
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            for entry in entries.flatten() {
                let named = entry.file_name().to_str().is_some_and(names::is_safe);
                let fits = entry
                    .file_type()
                    .is_ok_and(|kind| if depth < 3 { kind.is_dir() } else { kind.is_file() });
                if named && fits && next.len() < MAX_MANIFESTS {
                    next.push(entry.path());
                }
            }
        }
        level = next;
    }
    level
}

fn read(root: &Path, path: &Path) -> Option<OllamaModel> {
    let manifest: Manifest = read_json(path, MAX_JSON)?;
    let parts: Vec<&str> =
        path.strip_prefix(root.join("manifests")).ok()?.iter().filter_map(|p| p.to_str()).collect();
    let [host, owner, model, tag] = parts[..] else { return None };
    let blobs: Vec<String> = manifest.layers.iter().chain(&manifest.config).filter_map(Layer::blob).collect();
    let blob = |layer: &Layer| layer.blob().map(|name| root.join("blobs").join(name));
    let weights = manifest.of_kind("model").find_map(blob)?;
    let stored: Option<Map<String, Value>> =
        manifest.of_kind("params").find_map(blob).and_then(|path| read_json(&path, MAX_JSON));
    let stored = stored.unwrap_or_default();
    let left: Vec<&str> = stored.keys().map(String::as_str).filter(|key| !TAKEN_OVER.contains(key)).collect();
    let left = (!left.is_empty()).then(|| format!("its parameters {} are not taken over", left.join(", ")));
    let params = serde_json::from_value(Value::Object(stored.clone())).unwrap_or_default();
    let mut notes: Vec<String> = left.into_iter().collect();
    let mut note = |kind: &str, text: &str| {
        if manifest.of_kind(kind).next().is_some() {
            notes.push(text.to_owned());
        }
    };
    note("template", "Ollama's template is not used; the model's own is");
    note("system", "its system prompt is not taken over; send one with each conversation");
    note("messages", "its example messages are not taken over");
    note("projector", "its vision projector is not used: it answers text only");
    let missing = || !weights.is_file();
    let obstacle = if manifest.of_kind("adapter").next().is_some() {
        Some("it has an adapter, which Perch cannot apply; import the model that it is built on".to_owned())
    } else if manifest.of_kind("model").count() > 1 {
        Some("its weights are in several layers, which is not supported".to_owned())
    } else if missing() {
        Some(format!("its weights are missing; run `ollama pull {}`", shown(host, owner, model, tag)))
    } else {
        None
    };
    Some(OllamaModel {
        name: shown(host, owner, model, tag),
        id: id(host, owner, model, tag),
        manifest: path.to_owned(),
        weights,
        blobs,
        params,
        notes,
        obstacle,
    })
}

fn shown(host: &str, owner: &str, model: &str, tag: &str) -> String {
    match (host, owner) {
        (HOST, OWNER) => format!("{model}:{tag}"),
        (HOST, owner) => format!("{owner}/{model}:{tag}"),
        (host, owner) => format!("{host}/{owner}/{model}:{tag}"),
    }
}

/// `latest` says nothing; a hub repository keeps its name.
fn id(host: &str, owner: &str, model: &str, tag: &str) -> String {
    match (host, owner, tag) {
        (HOST, OWNER, "latest") => model.to_owned(),
        (HOST, OWNER, tag) => format!("{model}-{tag}"),
        (_, owner, "latest") => format!("{owner}/{model}"),
        (HOST, owner, tag) => format!("{owner}/{model}-{tag}"),
        (_, owner, tag) => format!("{owner}/{model}:{tag}"),
    }
}
