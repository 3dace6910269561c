//! A prompt and its answer, without a conversation: `POST /api/v1/generate`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MessageTimings, MessageUsage, SamplingSettings};
use crate::ErrorBody;
use crate::openai::FinishReason;

/// Body of `POST /api/v1/generate`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PromptRequest {
    /// What to answer.
    #[schema(required = true)]
    pub prompt: Option<String>,
    /// Which model; the one that new conversations use if absent.
    pub model: Option<String>,
    /// What the model is told before the prompt. Not with `raw`.
    pub system_prompt: Option<String>,
    /// Continue the text as it is, without the model's chat template.
    pub raw: Option<bool>,
    /// Send the answer piece by piece as server-sent events of `PromptEvent`.
    pub stream: Option<bool>,
    /// How to sample.
    pub sampling: Option<SamplingSettings>,
}

/// Answer of `POST /api/v1/generate`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PromptReply {
    /// The model that answered.
    pub model: String,
    /// The answer.
    pub text: String,
    /// What the model thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens that it took.
    pub usage: MessageUsage,
    /// Time that it took.
    pub timings: MessageTimings,
}

/// One server-sent event of a streamed answer. Its name is `type`. After the last one comes `data: [DONE]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PromptEvent {
    /// The answer goes on. One of the fields is present.
    Delta {
        /// New text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// New thought.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning: Option<String>,
    },
    /// Last: the whole answer.
    Done {
        /// The answer.
        reply: PromptReply,
    },
    /// Last, where it failed.
    Error {
        /// What went wrong.
        error: ErrorBody,
    },
}
