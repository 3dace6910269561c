//! `LocalModel`: one model on this machine, as found, not yet opened.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

/// A model that lies on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalModel {
    /// What a user types: `Qwen/Qwen3-0.6B`, `org/name-GGUF:Q4_K_M`, or a local name. Unique within one scan.
    pub id: String,
    /// The GGUF file (the first of a split model) or the folder with `config.json`.
    pub path: PathBuf,
    /// Guessed from the files' names and `config.json`; the loader has the last word.
    pub format: Format,
    /// Bytes of all weight files.
    pub size_bytes: u64,
    /// The weight files, in order.
    pub files: Vec<PathBuf>,
    /// Where it was found.
    pub source: Source,
    /// The hub repository it came from, where the folders say so.
    pub repo: Option<String>,
    /// `Q4_K_M`, `4bit`, `bf16`, …: guessed from names and `config.json`.
    pub quantization: Option<String>,
    /// When the newest weight file was last written.
    pub modified: Option<SystemTime>,
}

/// How the weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One or more `.gguf` files.
    Gguf,
    /// Hugging Face safetensors in float types.
    Safetensors,
    /// Safetensors quantised by MLX (`quantization` with a group size in `config.json`).
    Mlx,
}

/// Where a model was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Perch's own data folder.
    DataDir,
    /// A folder the user named.
    ModelsDir,
    /// The Hugging Face cache.
    HfCache,
    /// A path given directly.
    Path,
}
