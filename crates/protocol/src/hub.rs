//! What `/hub/…` asks and answers: models on the Hugging Face hub, judged by whether this machine can run them.
//!
//! Times are milliseconds since 1970, sizes are bytes. Counts and texts are the hub's; support, memory and fit are Perch's.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How a repository's weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HubFormat {
    /// GGUF files.
    Gguf,
    /// Safetensors as Hugging Face's libraries write them.
    Safetensors,
    /// Safetensors for MLX, usually quantised.
    Mlx,
}

/// In which order models are listed; always the most first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HubSort {
    /// What rises now.
    #[default]
    Trending,
    /// Downloads of the last 30 days.
    Downloads,
    /// Likes.
    Likes,
    /// Last changed.
    Updated,
    /// Created.
    Created,
}

/// Query of `GET /hub/search`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HubSearchQuery {
    /// Words to find in names of repositories.
    pub query: Option<String>,
    /// Only this user's or organisation's.
    pub author: Option<String>,
    /// Only models for this task, as the hub calls it, such as `text-generation`.
    pub task: Option<String>,
    /// Only repositories with weights of this format.
    pub format: Option<HubFormat>,
    /// Order; `trending` if not said.
    pub sort: Option<HubSort>,
    /// Models on a page, 1 to 100; 20 if not said.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Answer of `GET /hub/search`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HubModelList {
    /// The models of this page.
    pub models: Vec<HubModel>,
    /// Asks for the next page; absent on the last.
    pub next_cursor: Option<String>,
}

/// A model's repository on the hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HubModel {
    /// `author/name`.
    pub id: String,
    /// Who published it; empty for the few repositories without an owner.
    pub author: String,
    /// Its name without the author.
    pub name: String,
    /// Downloads of the last 30 days.
    pub downloads: u64,
    /// Likes.
    pub likes: u64,
    /// When it was last changed.
    pub updated_at: Option<u64>,
    /// What it is for, as the hub calls it: `text-generation`.
    pub task: Option<String>,
    /// Formats of its weights.
    pub formats: Vec<HubFormat>,
    /// Its licence, as its card names it: `apache-2.0`.
    pub license: Option<String>,
    /// Whether terms must be accepted on the hub before it can be downloaded.
    pub gated: bool,
    /// Whether only some users can see it.
    pub private: bool,
    /// Number of weights.
    pub parameters: Option<u64>,
    /// Bytes of the file or files that would be downloaded if nothing more were said, where known or well estimated.
    pub size_bytes: Option<u64>,
    /// The models it was made from.
    pub base_models: Vec<String>,
    /// Whether this version of Perch runs its architecture.
    pub support: HubSupport,
    /// Whether it fits this machine, where that can be said: judged by `size_bytes`.
    pub fit: Option<Fit>,
    /// Whether some of it is on this machine already.
    pub downloaded: bool,
}

/// Whether this version of Perch runs an architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HubSupport {
    /// Yes, no, or not known until it is downloaded.
    pub supported: Option<bool>,
    /// The architecture, as the model names it: `qwen3`, `Qwen3ForCausalLM`.
    pub architecture: Option<String>,
    /// What people call it: `Qwen3`.
    pub family: Option<String>,
    /// Why not.
    pub reason: Option<String>,
}

/// Whether a model fits the memory of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// It fits into what is free now.
    Fits,
    /// It fits if other programs and models make room.
    Tight,
    /// It does not fit this machine.
    TooLarge,
}

/// Memory that a model needs to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryNeed {
    /// Its weights.
    pub weight_bytes: u64,
    /// KV cache for `context_tokens`; 0 where the model's shape is not known.
    pub kv_bytes: u64,
    /// Tokens of context that are counted: the model's context, at most 8,192.
    pub context_tokens: u64,
    /// All of it, buffers included.
    pub total_bytes: u64,
    /// Whether this machine has that much.
    pub fit: Fit,
}

/// Answer of `GET /hub/model/{author}/{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HubModelDetails {
    /// What lists show of it.
    pub model: HubModel,
    /// The commit that this describes.
    pub revision: String,
    /// The text of its card in Markdown, without the metadata at its head.
    pub card: Option<String>,
    /// Whether the card was longer and is cut.
    pub card_truncated: bool,
    /// Its files, by path.
    pub files: Vec<HubFile>,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// What can be downloaded and run, smallest first: each quantisation of a GGUF repository, or the checkpoint.
    pub variants: Vec<HubVariant>,
    /// Whether it has a chat template; absent where the hub does not say.
    pub chat_template: Option<bool>,
    /// Longest context in tokens that it says it was made for.
    pub context_length: Option<u64>,
    /// What must be done before it can be downloaded, such as accepting its terms, and where.
    pub access: Option<HubAccess>,
    /// The memory that `fit` was judged by.
    pub machine: MachineMemory,
}

/// What must be done before a model can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HubAccess {
    /// What to do, in a sentence.
    pub message: String,
    /// The page to do it on.
    pub url: String,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HubFile {
    /// Its path in the repository.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// SHA-256 of its content, for files that the hub stores apart (all large ones).
    pub sha256: Option<String>,
}

/// Something that can be downloaded and run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HubVariant {
    /// What to ask `POST /local/download` for, and what requests call it then: `author/name:Q4_K_M`.
    pub id: String,
    /// `Q4_K_M`, `BF16`, `4bit`; absent where nothing says.
    pub quantization: Option<String>,
    /// How it is stored.
    pub format: HubFormat,
    /// Its files.
    pub files: Vec<String>,
    /// Bytes to download.
    pub size_bytes: u64,
    /// Memory that it needs.
    pub memory: MemoryNeed,
    /// Whether this is what is downloaded if nothing more is said.
    pub recommended: bool,
    /// Whether it is on this machine already.
    pub downloaded: bool,
}

/// Memory of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineMemory {
    /// All of it.
    pub total_bytes: u64,
    /// What programs could still get.
    pub available_bytes: u64,
}

/// Answer of `GET /hub/popular`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopularList {
    /// Well-known models that this version runs, small to large.
    pub models: Vec<PopularModel>,
    /// Whether the hub answered; downloads and likes are known then.
    pub online: bool,
}

/// A well-known model that this version of Perch runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PopularModel {
    /// What to download: `author/name:Q4_K_M`.
    pub id: String,
    /// What people call it: `Qwen3 4B`.
    pub title: String,
    /// What it is good for, in a few words.
    pub summary: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes to download, roughly.
    pub size_bytes: u64,
    /// Whether it fits this machine.
    pub fit: Fit,
    /// Whether it is on this machine already.
    pub downloaded: bool,
    /// Downloads of the last 30 days, when online.
    pub downloads: Option<u64>,
    /// Likes, when online.
    pub likes: Option<u64>,
}

/// Answer of `GET /hub/model/{author}/{name}/gguf-providers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GgufProviderList {
    /// The model that was asked about.
    pub model: String,
    /// Repositories that carry GGUF of it, best first.
    pub providers: Vec<GgufProvider>,
    /// The memory that quantisations were judged by.
    pub machine: MachineMemory,
}

/// A repository that carries GGUF of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GgufProvider {
    /// The repository.
    pub model: HubModel,
    /// How good a source it is, 0 to 1: the weighted sum of `parts`.
    pub score: f64,
    /// What the score is made of.
    pub parts: ProviderScore,
    /// Its quantisations, smallest first.
    pub variants: Vec<HubVariant>,
    /// The `id` of the variant to take on this machine, if one fits.
    pub recommended: Option<String>,
}

/// What a provider's score is made of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderScore {
    /// Whether the publisher is the model's author or known for sound conversions.
    pub trust: ScorePart,
    /// Downloads of the last 30 days, on a logarithmic scale.
    pub downloads: ScorePart,
    /// How lately it was changed.
    pub freshness: ScorePart,
    /// How many of the useful quantisations it has that fit this machine.
    pub quantizations: ScorePart,
}

/// One part of a score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScorePart {
    /// 0 to 1.
    pub value: f64,
    /// Its share of the score; all shares add up to 1.
    pub weight: f64,
}
