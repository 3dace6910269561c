//! What one folder holds: GGUF models, split ones put together, and a safetensors checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::local::{Format, LocalModel, Source};
use crate::names;
use crate::walk::Listing;

/// Longest `config.json` that is read.
const MAX_CONFIG: u64 = 4 << 20;
/// Longest `model.safetensors.index.json` that is read.
const MAX_INDEX: u64 = 64 << 20;

/// The weights of one model in one folder, not yet named.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    /// The first GGUF file, or the folder.
    pub(crate) path: PathBuf,
    /// GGUF: the file's name without part numbers and extension. `None` for a checkpoint folder.
    pub(crate) stem: Option<String>,
    pub(crate) files: Vec<PathBuf>,
    /// Names of files that ought to be there and are not: the model cannot be loaded.
    pub(crate) missing: Vec<String>,
    pub(crate) format: Format,
    pub(crate) quantization: Option<String>,
}

impl Weights {
    /// One GGUF file, whatever it is called.
    pub(crate) fn of_gguf(file: PathBuf, name: &str) -> Self {
        Self {
            path: file.clone(),
            stem: Some(name.to_string()),
            files: vec![file],
            missing: Vec::new(),
            format: Format::Gguf,
            quantization: None,
        }
    }

    /// A model of these weights. Sizes and times are read from the disk now.
    pub(crate) fn into_model(self, id: String, source: Source, repo: Option<String>) -> LocalModel {
        let metas: Vec<fs::Metadata> = self.files.iter().filter_map(|f| fs::metadata(f).ok()).collect();
        let modified: Option<SystemTime> = metas.iter().filter_map(|m| m.modified().ok()).max();
        let quantization = self.quantization.or_else(|| names::quantization_label(&id));
        LocalModel {
            id,
            path: self.path,
            format: self.format,
            size_bytes: metas.iter().map(|m| m.len()).fold(0, u64::saturating_add),
            files: self.files,
            source,
            repo,
            quantization,
            modified,
        }
    }
}

/// Everything in a folder that is a model: first its checkpoint, then GGUF files by name.
pub(crate) fn weights_in(listing: &Listing) -> Vec<Weights> {
    checkpoint(listing).into_iter().chain(ggufs(listing)).collect()
}

fn ggufs(listing: &Listing) -> Vec<Weights> {
    // Parts of one split model share a base and a count; a whole file is a group of its own.
    let mut groups: BTreeMap<(&str, u32), BTreeMap<u32, &str>> = BTreeMap::new();
    for file in &listing.files {
        let Some(stem) = names::gguf_stem(file) else { continue };
        if names::is_projector(stem) {
            continue;
        }
        let (key, part) = match names::split_name(stem) {
            Some(split) => ((split.base, split.parts), split.part),
            None => ((stem, 0), 0),
        };
        groups.entry(key).or_default().insert(part, file);
    }
    let group = |((base, parts), found): ((&str, u32), BTreeMap<u32, &str>)| {
        let absent = (1..=parts).filter(|part| !found.contains_key(part)).take(8);
        let files: Vec<PathBuf> = found.values().map(|file| listing.dir.join(file)).collect();
        Weights {
            path: files[0].clone(),
            stem: Some(base.to_string()),
            missing: absent.map(|part| format!("{base}-{part:05}-of-{parts:05}.gguf")).collect(),
            files,
            format: Format::Gguf,
            quantization: names::quantization_label(base),
        }
    };
    groups.into_iter().map(group).collect()
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Config {
    quantization: Option<Quantization>,
    quantization_config: Option<Quantization>,
    torch_dtype: Option<String>,
    dtype: Option<String>,
}

#[derive(Deserialize)]
struct Quantization {
    bits: Option<u32>,
    group_size: Option<i64>,
    quant_method: Option<String>,
}

/// A folder with `config.json` and safetensors. Shards are those that the index names, where there is one.
fn checkpoint(listing: &Listing) -> Option<Weights> {
    if !listing.has("config.json") {
        return None;
    }
    let index: Option<Index> = listing
        .has("model.safetensors.index.json")
        .then(|| read_json(&listing.dir.join("model.safetensors.index.json"), MAX_INDEX))
        .flatten();
    let wanted: BTreeSet<String> = match index {
        Some(index) => index.weight_map.into_values().collect(),
        None => safetensors_without_index(listing),
    };
    let (present, missing): (Vec<String>, Vec<String>) =
        wanted.into_iter().partition(|name| listing.has(name));
    if present.is_empty() {
        return None;
    }
    let config: Option<Config> = read_json(&listing.dir.join("config.json"), MAX_CONFIG);
    let (format, quantization) = config.map_or((Format::Safetensors, None), |c| describe(&c));
    Some(Weights {
        path: listing.dir.clone(),
        stem: None,
        files: present.iter().map(|name| listing.dir.join(name)).collect(),
        missing,
        format,
        quantization,
    })
}

/// `model.safetensors` alone if it is there (others beside it are adapters or the same weights in another layout), else
/// every shard.
fn safetensors_without_index(listing: &Listing) -> BTreeSet<String> {
    if listing.has("model.safetensors") {
        return BTreeSet::from(["model.safetensors".to_string()]);
    }
    let is_weights = |f: &&String| f.ends_with(".safetensors") && !f.starts_with("adapter_");
    listing.files.iter().filter(is_weights).cloned().collect()
}

fn describe(config: &Config) -> (Format, Option<String>) {
    let mlx = config.quantization.as_ref().filter(|q| q.group_size.is_some());
    if let Some(Quantization { bits: Some(bits), .. }) = mlx {
        return (Format::Mlx, Some(format!("{bits}bit")));
    }
    let method = config.quantization_config.as_ref().and_then(|q| q.quant_method.clone());
    let dtype = config.dtype.as_ref().or(config.torch_dtype.as_ref());
    let short = |dtype: &String| match dtype.as_str() {
        "bfloat16" => Some("BF16".to_string()),
        "float16" => Some("F16".to_string()),
        "float32" => Some("F32".to_string()),
        _ => None,
    };
    (Format::Safetensors, method.filter(|m| names::is_safe(m)).or_else(|| dtype.and_then(short)))
}

/// Reads a JSON file of at most `limit` bytes. A damaged file is nobody's here; the loader says what is wrong with it.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path, limit: u64) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > limit {
        return None;
    }
    serde_json::from_slice(&bytes).ok()
}

/// Whether a regular file begins as GGUF files do.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let regular = fs::metadata(path).is_ok_and(|meta| meta.is_file());
    regular && File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"GGUF"
}
