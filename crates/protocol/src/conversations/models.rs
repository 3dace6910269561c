//! Models as a chat shows them, and whether answers and conversations can be had.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Conversation, SamplingSettings};
use crate::{ModelState, Problem};

/// Answer of `GET /api/v1/chat/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatModels {
    /// All models on this machine, by id.
    pub models: Vec<ChatModel>,
    /// The one that new conversations use, if that is settled.
    pub current: Option<String>,
}

/// A model to choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatModel {
    /// What to put into `model`.
    pub id: String,
    /// Other names that stand for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Whether it is in memory now.
    pub loaded: bool,
    /// Longest sequence in tokens, known once the model has been loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
}

/// Body of `POST /api/v1/chat/switch-model`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchModel {
    /// The model that answers from now on. It is loaded before the answer comes.
    pub model: String,
    /// In this conversation; in all new ones if absent.
    #[serde(default)]
    pub conversation_id: Option<String>,
}

/// Answer of `POST /api/v1/chat/switch-model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SwitchedModel {
    /// The model, loaded.
    pub model: ChatModel,
    /// The conversation that was named.
    pub conversation: Option<Conversation>,
}

/// Query of `GET /api/v1/model-info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ModelInfoQuery {
    /// Which model; the one that new conversations use if absent.
    pub model: Option<String>,
}

/// Answer of `GET /api/v1/model-info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelInfo {
    /// The model's id.
    pub id: String,
    /// Other names that stand for it.
    pub aliases: Vec<String>,
    /// The file or folder it is.
    pub path: String,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Where it is in its life; none while it is not in memory.
    pub state: Option<ModelState>,
    /// What only a loaded model tells.
    pub loaded: Option<LoadedModelInfo>,
}

/// What only a loaded model tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LoadedModelInfo {
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Tokens that it knows.
    pub vocab_size: usize,
    /// It has a chat template; without one it continues texts and holds no conversations.
    pub chat: bool,
    /// Its template has a place for a system prompt.
    pub system_prompt: bool,
    /// Its template knows tools.
    pub tools: bool,
    /// What it is sampled with unless a request says.
    pub sampling: SamplingSettings,
    /// When it was loaded.
    pub loaded_at: u64,
}

/// Answer of `GET /api/v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChatHealth {
    /// `ok`, or what is wrong in a word: `stopping`, `error`.
    pub status: String,
    /// What is wrong.
    pub error: Option<Problem>,
    /// Perch's version.
    pub version: String,
    /// Ids of the models in memory.
    pub loaded_models: Vec<String>,
    /// The file that holds the conversations.
    pub conversations: StoreHealth,
}

/// How the file that holds the conversations is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreHealth {
    /// `ok`; `opening`; `recovered` where a damaged file was set aside; `unavailable` where conversations cannot be kept.
    pub status: String,
    /// What happened and what to do, unless it is `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The damaged file, where it was set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged_file: Option<String>,
    /// Conversations that could be read from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_conversations: Option<u64>,
    /// Messages that could be read from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_messages: Option<u64>,
}
