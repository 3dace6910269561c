//! Parts that chat completions and completions share: stop strings, stream options, usage.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::de::TextOrSeq;

/// Up to four strings that end an answer; not part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One string.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match TextOrSeq::deserialize(deserializer)? {
            TextOrSeq::Text(text) => Self::One(text),
            TextOrSeq::Seq(texts) => Self::Many(texts),
        })
    }
}

impl Stop {
    /// The strings, whatever form they came in.
    pub fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Options of a streamed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamOptions {
    /// Send one more chunk, with the usage and no choices, before `[DONE]`.
    #[serde(default)]
    pub include_usage: bool,
    /// OpenAI pads its chunks to hide their length from the network. Perch does not; accepted and left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_obfuscation: Option<bool>,
}

/// Tokens used by a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens generated, over all choices.
    pub completion_tokens: u64,
    /// The two together.
    pub total_tokens: u64,
    /// What the prompt's tokens were.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the generated tokens were.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// What the prompt's tokens were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Tokens whose KV came from the prefix cache and were not computed again.
    pub cached_tokens: u64,
}

/// What the generated tokens were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompletionTokensDetails {
    /// Tokens that the model spent on thinking.
    pub reasoning_tokens: u64,
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string was found.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// The model calls tools.
    ToolCalls,
}
