//! What is kept: a conversation and its messages.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;
use crate::openai::{Content, FinishReason, Role, ToolCall};

/// A conversation, without its messages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    /// Names it.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// The title was made from the first message; one that a person gave stays.
    #[serde(default)]
    pub auto_title: bool,
    /// The model that answers in it; none is the server's choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the model is told before the first message; none is the server's default, which may be nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_prompt: Option<String>,
    /// How its answers are sampled.
    #[serde(default)]
    pub sampling: SamplingSettings,
    /// Kept at the top by those who show it.
    #[serde(default)]
    pub pinned: bool,
    /// When it was made.
    pub created_at: u64,
    /// When it last changed.
    pub updated_at: u64,
    /// Messages in it, on all branches.
    pub message_count: u64,
    /// The last message of the branch that is shown; none while there are no messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// In the answer to a search: where the words were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// How answers are sampled. What is absent is left to the conversation, then to the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SamplingSettings {
    /// 0 (always the most likely token) to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus sampling, above 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Keep the k most likely tokens; 0 or -1 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Drop tokens less likely than this times the most likely, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Above 0; 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Same seed, same answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Most tokens of an answer, thinking included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Strings that end an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// How long to think: `none`, `minimal`, `low`, `medium`, `high`, `xhigh`; given to the model's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConversationMessage {
    /// Names it.
    pub id: String,
    /// The message that it follows; none for the first. Messages with one parent are alternatives to each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Who speaks: `user`, `assistant`, `tool`, or `system` in what was imported.
    pub role: Role,
    /// What is said. Images are addresses on this server (`/api/v1/chat/images/…`), in exports `data:` URLs.
    pub content: Content,
    /// What the model thought before it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Functions that the model calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a `tool` message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The model that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it is whole.
    #[serde(default)]
    pub state: MessageState,
    /// Why the model ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<FinishReason>,
    /// What went wrong, with the state `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// Tokens that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<MessageUsage>,
    /// Time that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timings: Option<MessageTimings>,
    /// Turns at the conversation's beginning that did not fit, and that the model was not shown for this answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out_turns: u64,
    /// When it was said.
    pub created_at: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Whether a message is whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// Whole.
    #[default]
    Complete,
    /// Being written.
    Running,
    /// Whoever asked went away; what was written until then.
    Cancelled,
    /// Failed on the way; what was written until then.
    Failed,
    /// Perch ended while it was being written; what was saved until then.
    Interrupted,
}

/// Tokens that an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageUsage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: u64,
    /// Of these, found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Of these, thinking.
    pub reasoning_tokens: u64,
}

/// Time that an answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessageTimings {
    /// Milliseconds to the first token, loading the model included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// Milliseconds in all.
    pub duration_ms: u64,
}

/// Where the words of a search were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// Messages that have all the words.
    pub messages: u64,
    /// The newest of them; none where only the title has the words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Who spoke there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The words with what stands around them, in order; put together they are one line of text.
    pub snippet: Vec<SnippetPart>,
}

/// A piece of a snippet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnippetPart {
    /// Plain text.
    pub text: String,
    /// Whether it is one of the words that were looked for.
    pub matched: bool,
}
