//! The answers of `POST /v1/chat/completions`: whole, and chunk by chunk.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FinishReason, Role, ToolCall, Usage};

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatResponse {
    /// `chatcmpl-…`
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// When, in seconds since 1970.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// The answers, `n` of them.
    pub choices: Vec<ChatChoice>,
    /// Tokens used.
    pub usage: Usage,
    /// What produced it: changes when the same seed may give another answer.
    pub system_fingerprint: String,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChoice {
    /// Which of the `n`.
    pub index: usize,
    /// What the model said.
    pub message: AnswerMessage,
    /// Log-probabilities, if asked for.
    pub logprobs: Option<ChatLogProbs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// What the model said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnswerMessage {
    /// Always `assistant`.
    pub role: Role,
    /// The text; null where there are only tool calls.
    pub content: Option<String>,
    /// Always null: local models refuse in words.
    pub refusal: Option<String>,
    /// What it thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same: clients differ in the name they read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Functions it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
}

/// One piece of a streamed answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatChunk {
    /// The same in all chunks of an answer.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: String,
    /// When the answer began, in seconds since 1970.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// See [`ChatResponse::system_fingerprint`].
    pub system_fingerprint: String,
    /// What is new; empty in the chunk that carries the usage.
    pub choices: Vec<ChunkChoice>,
    /// Absent unless asked for by `stream_options.include_usage`; then null in all chunks but the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Option<Usage>>,
}

/// What is new in one choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChunkChoice {
    /// Which of the `n`.
    pub index: usize,
    /// What is new.
    pub delta: ChunkDelta,
    /// Log-probabilities of the new tokens, if asked for.
    pub logprobs: Option<ChatLogProbs>,
    /// Why it ended; null until then.
    pub finish_reason: Option<FinishReason>,
}

/// What is new in a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChunkDelta {
    /// `assistant`, in a choice's first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// New text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// New thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// The same: clients differ in the name they read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// New calls, or more of their arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallDelta>>,
}

/// A new call (with `id` and `name`), or more of its arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolCallDelta {
    /// Which call of this message.
    pub index: usize,
    /// The call's id, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, once.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is new.
    pub function: FunctionCallDelta,
}

/// What is new in a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionCallDelta {
    /// The function's name, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// Log-probabilities of a choice's tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatLogProbs {
    /// One for each token of the content.
    pub content: Option<Vec<TokenLogProb>>,
    /// Always null.
    pub refusal: Option<Vec<TokenLogProb>>,
}

/// Log-probability of a token, and of those that were as likely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TokenLogProb {
    /// The token's text.
    pub token: String,
    /// Natural logarithm of its probability; -9999 where it is zero.
    pub logprob: f32,
    /// The token's bytes: characters may span tokens.
    pub bytes: Option<Vec<u8>>,
    /// The most likely tokens in its place.
    pub top_logprobs: Vec<TopLogProb>,
}

/// A token that was likely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TopLogProb {
    /// The token's text.
    pub token: String,
    /// Natural logarithm of its probability; -9999 where it is zero.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Option<Vec<u8>>,
}
