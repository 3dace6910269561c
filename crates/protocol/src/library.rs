//! The models on this machine: `/local/models`, `/local/import`, `/local/storage`.
//!
//! Times are milliseconds since 1970, sizes are bytes, paths are absolute.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::Problem;

/// Whose folder a model lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// Perch's own: `models` in the data folder.
    Perch,
    /// A folder that the user named (`models_dirs`).
    ModelsDir,
    /// The Hugging Face cache.
    HuggingFace,
    /// LM Studio's models.
    LmStudio,
    /// Ollama's models.
    Ollama,
    /// Anywhere else: named by its path in `models.toml`, `config.toml` or a flag.
    Elsewhere,
    /// The program itself: the built-in guide, which cannot be deleted.
    BuiltIn,
}

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelFormat {
    /// One `.gguf` file, or its parts.
    Gguf,
    /// Hugging Face safetensors in float types.
    Safetensors,
    /// Safetensors quantised by MLX.
    Mlx,
}

/// What is known about a model's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// Nobody has compared them with the publisher's checksums.
    #[default]
    Unverified,
    /// They were compared with the publisher's checksums, agreed, and have not changed since.
    Verified,
    /// They were compared and differ: download the model again.
    Damaged,
}

/// Answer of `GET /local/models`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LocalModelList {
    /// All complete models, in the order of the library: the user's folders, Perch's own, the Hugging Face cache.
    pub models: Vec<LocalModel>,
    /// Models that lack files, and cannot be loaded before they are there.
    pub incomplete: Vec<IncompleteModel>,
}

/// A model that lies on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LocalModel {
    /// What requests call it.
    pub id: String,
    /// Other names that stand for it.
    pub names: Vec<String>,
    /// The hub repository it came from, where the folders say so.
    pub repo: Option<String>,
    /// How its weights are stored.
    pub format: ModelFormat,
    /// As the model names it: `qwen3`, `Qwen3ForCausalLM`.
    pub architecture: Option<String>,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// `Q4_K_M`, `BF16`, `4-bit (MLX)`.
    pub quantization: Option<String>,
    /// Bytes of its weights' files.
    pub size_bytes: u64,
    /// Longest context in tokens that it was made for.
    pub context_length: Option<u64>,
    /// Its licence, where its files name one: `apache-2.0`.
    pub license: Option<String>,
    /// Whether it has a chat template.
    pub chat_template: bool,
    /// What it is, for a model that is part of Perch: `built-in guide (demonstration)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The GGUF file (the first of a split model), or the folder; empty for a model that is part of Perch.
    pub path: String,
    /// Whose folder it lies in.
    pub store: Store,
    /// Where its bytes really lie, if what lies in the store is only a link to them.
    pub link_target: Option<String>,
    /// Whether its bytes are known to be right.
    pub verification: Verification,
    /// Why this version of Perch cannot run it; null if it can.
    pub problem: Option<Problem>,
    /// What it takes to run it; null if it cannot be run.
    pub memory: Option<LocalMemory>,
    /// Whether it is in memory now.
    pub loaded: bool,
    /// When its newest file was written.
    pub modified_at: Option<u64>,
    /// When a request last used it, if that is known.
    pub last_used_at: Option<u64>,
}

/// Memory that a model takes at some length of context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalMemory {
    /// Tokens of context that this is about.
    pub context: u64,
    /// Bytes of its weights once loaded.
    pub weight_bytes: u64,
    /// Bytes of KV for one sequence of that many tokens.
    pub kv_bytes: u64,
    /// Both together.
    pub total_bytes: u64,
    /// Whether so much memory is free now, beside the half gigabyte that is left to the system. Loading it can make room by letting idle models go.
    pub fits: bool,
}

/// A model that lacks files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncompleteModel {
    /// What it would be called.
    pub id: String,
    /// Where it lies.
    pub path: String,
    /// Whose folder it lies in.
    pub store: Store,
    /// Names of the files that are missing, at most eight.
    pub missing: Vec<String>,
}

/// Answer of `GET /local/models/{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LocalModelDetails {
    /// As in the list.
    #[serde(flatten)]
    pub model: LocalModel,
    /// Its weights' files.
    pub files: Vec<ModelFile>,
    /// Its tensors by type, most bytes first.
    pub tensors: Vec<TensorTypes>,
    /// What it takes at growing lengths of context, up to its own.
    pub memory_at: Vec<LocalMemory>,
    /// What its files say about it: GGUF metadata without the vocabulary, or `config.json`'s plain values.
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// What deleting it would do.
    pub removal: Removal,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelFile {
    /// Where it lies.
    pub path: String,
    /// Its bytes.
    pub size_bytes: u64,
    /// Where its bytes really lie, if it is a link.
    pub link_target: Option<String>,
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TensorTypes {
    /// `Q4_K`, `F32`, `BF16`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many tensors.
    pub count: usize,
    /// Their weights.
    pub parameters: u64,
    /// Their bytes as stored.
    pub bytes: u64,
}

/// Query of `DELETE /local/models/{id}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RemoveQuery {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Unload the model first if it is in memory. Without it a model in use is a 409.
    pub force: bool,
    /// Of a model that is only linked or referenced: remove the bytes as well, also from another program's store.
    pub files: bool,
    /// In the Hugging Face cache: remove older revisions as well, which would be listed in its place.
    pub all_revisions: bool,
}

/// What a deletion removes, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removal {
    /// Which model.
    pub id: String,
    /// True if nothing was removed yet.
    pub dry_run: bool,
    /// What goes.
    pub items: Vec<StorageItem>,
    /// What one could expect to go, and stays.
    pub kept: Vec<KeptItem>,
    /// Bytes of disk that come free: those that nothing else refers to.
    pub freed_bytes: u64,
}

/// Something on the disk that is not needed any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageItem {
    /// Where it lies.
    pub path: String,
    /// What it is.
    pub kind: StorageItemKind,
    /// Bytes of disk that come free with it; 0 for links and entries.
    pub bytes: u64,
    /// Why it is not needed.
    pub reason: String,
    /// Whether it is gone.
    pub removed: bool,
    /// Why it could not be removed.
    pub error: Option<String>,
}

/// What a [`StorageItem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StorageItemKind {
    /// A file of the model being deleted.
    File,
    /// A link of the model being deleted.
    Link,
    /// A folder that is empty then.
    Folder,
    /// An entry in `models.toml`.
    Entry,
    /// A blob of a Hugging Face cache or of Ollama that no revision or manifest refers to.
    OrphanedBlob,
    /// A download that was never finished.
    PartialDownload,
    /// A link to something that is not there.
    BrokenLink,
    /// A revision in a Hugging Face cache that no branch or tag names, and that is not the one Perch lists.
    UnreferencedSnapshot,
    /// What an import left behind that was interrupted.
    AbandonedImport,
}

/// Something that stays although a deletion might be expected to take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptItem {
    /// Where it lies.
    pub path: String,
    /// Why it stays.
    pub reason: String,
}

/// Where to import from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportSource {
    /// `path`: a GGUF file, a folder that is a model, or one that holds models.
    Path,
    /// The Hugging Face cache. Its models are in the library without an import; this writes their settings.
    HuggingFace,
    /// LM Studio's models.
    LmStudio,
    /// Ollama's models.
    Ollama,
}

/// How the bytes of an imported model come into the library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImportMode {
    /// A link in Perch's folder: nothing is stored twice, and the model is there at once.
    #[default]
    Link,
    /// An entry with its path in `models.toml`, and nothing else.
    Reference,
    /// A copy in Perch's folder, sharing its blocks with the original where the file system can.
    Copy,
}

/// A set of settings for an imported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Short answers soon: 4,096 tokens of context, float weights rounded to four bits.
    Fast,
    /// Up to 16,384 tokens of context, float weights rounded to eight bits.
    Balanced,
    /// The model's own context and weights as they are.
    Quality,
}

/// Body of `POST /local/import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportRequest {
    /// Where to import from.
    pub source: ImportSource,
    /// The file or folder; for a program's store, where it lies if not in its usual place.
    #[serde(default)]
    pub path: Option<String>,
    /// Which of the models found there, by the `name` that a dry run lists. All if absent.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// What to call it, where one model is imported.
    #[serde(default)]
    pub id: Option<String>,
    /// How its bytes come into the library.
    #[serde(default)]
    pub mode: ImportMode,
    /// Settings to write into `models.toml`.
    #[serde(default)]
    pub profile: Option<Profile>,
    /// Only say what would be imported.
    #[serde(default)]
    pub dry_run: bool,
}

/// Answer of `POST /local/import`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportReport {
    /// True if nothing was imported yet.
    pub dry_run: bool,
    /// What was imported, or would be.
    pub imported: Vec<ImportedModel>,
    /// What was found and not imported, and why.
    pub skipped: Vec<SkippedImport>,
    /// Whether `models.toml` was changed. A server that made the change reads it again by itself.
    pub settings_changed: bool,
}

/// A model that was imported, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedModel {
    /// What its own store calls it.
    pub name: String,
    /// What requests call it from now on.
    pub id: String,
    /// Where it was found.
    pub from: String,
    /// Where it lies in the library.
    pub path: String,
    /// How its bytes came there.
    pub mode: ImportMode,
    /// Bytes of its weights' files.
    pub size_bytes: u64,
    /// The settings written into `models.toml`.
    pub profile: Option<Profile>,
    /// What could not be taken over, in sentences.
    pub notes: Vec<String>,
}

/// A model that was found and not imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedImport {
    /// What its own store calls it.
    pub name: String,
    /// Where it was found.
    pub from: String,
    /// Why it was not imported.
    pub reason: String,
}

/// Answer of `GET /local/storage/stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageStats {
    /// Bytes of all models, each byte once.
    pub total_bytes: u64,
    /// Bytes that models share: what copies of them would take more.
    pub shared_bytes: u64,
    /// What `POST /local/storage/cleanup` would free now.
    pub reclaimable_bytes: u64,
    /// Bytes that are free where Perch's own folder lies.
    pub free_bytes: u64,
    /// Each place where models lie.
    pub stores: Vec<StoreUsage>,
    /// Each model, most bytes first.
    pub models: Vec<ModelUsage>,
}

/// What one place holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreUsage {
    /// Whose it is.
    pub store: Store,
    /// Where it is.
    pub path: String,
    /// Models that the library lists from there.
    pub models: usize,
    /// Bytes of the models there and the files beside them, each byte once; what links lead to elsewhere not counted.
    pub bytes: u64,
    /// What a cleanup would free there.
    pub reclaimable_bytes: u64,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
    /// Bytes that its disk has.
    pub disk_bytes: u64,
}

/// What one model takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelUsage {
    /// Its id.
    pub id: String,
    /// Whose folder it lies in.
    pub store: Store,
    /// Bytes of its weights' files.
    pub bytes: u64,
    /// Bytes of these that deleting it would free.
    pub freed_bytes: u64,
}

/// Body of `POST /local/storage/cleanup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CleanupRequest {
    /// Only say what would be removed. True unless said otherwise.
    #[serde(default = "yes")]
    pub dry_run: bool,
    /// Which kinds of things to remove. All that a cleanup knows if absent.
    #[serde(default)]
    pub kinds: Option<Vec<StorageItemKind>>,
    /// Unfinished downloads and imports are removed when nobody has written to them for so many seconds; at least 600.
    #[serde(default = "a_day")]
    pub older_than_s: u64,
}

impl Default for CleanupRequest {
    fn default() -> Self {
        Self { dry_run: true, kinds: None, older_than_s: a_day() }
    }
}

fn yes() -> bool {
    true
}

fn a_day() -> u64 {
    86_400
}

/// Answer of `POST /local/storage/cleanup`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CleanupReport {
    /// True if nothing was removed yet.
    pub dry_run: bool,
    /// What is not needed.
    pub items: Vec<StorageItem>,
    /// What looks unneeded and stays, because a program holds it or it is too new.
    pub kept: Vec<KeptItem>,
    /// Bytes of disk that come free, or came free.
    pub freed_bytes: u64,
}
