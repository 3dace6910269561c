//! `Status`: the one thing that the tray, the menu, the dashboard, `/api/events` and `perch ps` show.
//!
//! Times are milliseconds since 1970, sizes are bytes. Nothing here holds a prompt, an answer or a key.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The state of the server as one word; the tray has an icon for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not listening.
    #[default]
    Stopped,
    /// Listening soon, or loading its first model.
    Starting,
    /// Ready, nothing to do.
    Idle,
    /// Answering.
    Active,
    /// Something is wrong; [`Status::error`] says what.
    Error,
}

/// What the server is doing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// In one word.
    pub state: State,
    /// What is wrong, with [`State::Error`].
    pub error: Option<Problem>,
    /// Perch's version.
    pub version: String,
    /// `http://127.0.0.1:8080`, while it listens.
    pub url: Option<String>,
    /// When it began to listen.
    pub started_at: Option<u64>,
    /// Models loaded, loading or failed.
    pub models: Vec<ModelStatus>,
    /// Requests now and so far.
    pub requests: RequestCounts,
    /// Tokens a second of what runs now.
    pub rates: Rates,
    /// What the process uses; sampled only while someone watches.
    pub resources: Option<Resources>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// One of the error codes.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// Where a model is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// Being read.
    Loading,
    /// Ready.
    Ready,
    /// Its engine failed and is being built again.
    Restarting,
    /// Its engine has been at one step for minutes.
    Hung,
    /// Could not be loaded, or its engine is gone for good.
    Failed,
}

/// A model in memory, or on its way there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelStatus {
    /// Its id.
    pub id: String,
    /// What it is, for a model that is part of Perch: `built-in guide (demonstration)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it is in its life.
    pub state: ModelState,
    /// What runs it: `cpu`, `metal` or `mlx`. None before it is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// What is wrong with it.
    pub error: Option<Problem>,
    /// Whether it answers requests which name no model.
    #[serde(default)]
    pub default: bool,
    /// Whether it stays in memory whatever happens.
    #[serde(default)]
    pub pinned: bool,
    /// Its settings or files have changed: it is unloaded as soon as nobody uses it.
    #[serde(default)]
    pub outdated: bool,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Bytes foreseen for computing, beside weights and KV.
    #[serde(default)]
    pub scratch_bytes: u64,
    /// Longest sequence in tokens.
    pub context_length: Option<usize>,
    /// Requests that hold it: waiting for it to load, being prepared or being answered.
    #[serde(default)]
    pub in_use: usize,
    /// Sequences being generated.
    pub running: usize,
    /// Requests waiting for a place.
    pub waiting: usize,
    /// Bytes of KV in use, cached prefixes included.
    pub kv_bytes: u64,
    /// Bytes of KV allowed.
    pub kv_budget_bytes: u64,
    /// When it will be unloaded if nobody uses it.
    pub expires_at: Option<u64>,
    /// When it was loaded.
    pub loaded_at: Option<u64>,
}

/// Requests now and so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestCounts {
    /// Being answered.
    pub active: u64,
    /// Answered in full.
    pub completed: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Given up by the client.
    pub cancelled: u64,
}

/// Tokens a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rates {
    /// Prompt tokens computed (not cached).
    pub prefill: f64,
    /// Tokens generated.
    pub decode: f64,
}

/// What the process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Resources {
    /// Resident memory of this process, mapped weights included.
    pub memory_bytes: u64,
    /// Processor time of this process, 100 is one core.
    pub cpu_percent: f32,
    /// Memory of the machine.
    pub system_memory_bytes: u64,
    /// Memory that programs could still get.
    pub available_memory_bytes: u64,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered in full.
    Completed,
    /// Given up by the client.
    Cancelled,
    /// Answered with this error code.
    Failed(String),
}

/// A request of the recent past. No bodies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestRecord {
    /// The `x-request-id` of its answer.
    pub id: String,
    /// Which route.
    pub route: String,
    /// Which model.
    pub model: String,
    /// When it began.
    pub at: u64,
    /// Tokens of its prompt.
    pub prompt_tokens: u64,
    /// Of these, found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Milliseconds to the first token.
    pub first_token_ms: Option<u64>,
    /// Milliseconds in all.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// Answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`, or what is wrong in a word: `stopping`, `error`.
    pub status: String,
    /// What is wrong.
    pub error: Option<Problem>,
    /// Perch's version.
    pub version: String,
}

/// Answer of `GET /api/requests`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RequestList {
    /// The recent ones, newest first.
    pub requests: Vec<RequestRecord>,
}
