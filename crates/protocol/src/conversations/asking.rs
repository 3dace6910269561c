//! Saying something in a conversation: `POST /api/v1/chat`, whole and as a stream of events.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Conversation, ConversationMessage, SamplingSettings};
use crate::ErrorBody;
use crate::openai::{Content, ToolCall};

/// Body of `POST /api/v1/chat`: something to say, or an answer to ask for again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ChatTurn {
    /// In which conversation; a new one if absent.
    pub conversation_id: Option<String>,
    /// What to say: a text, or OpenAI's content parts.
    pub message: Option<Content>,
    /// The message after which it is said; the conversation's head if absent. To edit a message, send the new text with the
    /// parent of the old; `root` is the parent of a first message.
    pub parent: Option<String>,
    /// Ask again: without `message`, one more answer to the user's message `parent`, or to the last one of the branch.
    pub regenerate: Option<bool>,
    /// Which model answers this time; the conversation's own if absent. A new conversation keeps it.
    pub model: Option<String>,
    /// Send the answer piece by piece as server-sent events of `ChatTurnEvent`.
    pub stream: Option<bool>,
    /// For a new conversation: what the model is told before the first message.
    pub system_prompt: Option<String>,
    /// For this answer alone.
    pub sampling: Option<SamplingSettings>,
    /// For a new conversation: whether to keep it. The setting `chat.autosave` if absent.
    pub store: Option<bool>,
}

/// Answer of `POST /api/v1/chat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChatTurnReply {
    /// The conversation as it is now; none if it is not kept.
    pub conversation: Option<Conversation>,
    /// What was said, as it is kept; none if it is not, or if only the answer is new.
    pub user_message: Option<ConversationMessage>,
    /// The answer.
    pub message: ConversationMessage,
    /// Turns at the conversation's beginning that did not fit and were left out of the prompt.
    pub left_out_turns: u64,
}

/// One server-sent event of a streamed answer. Its name is `type`. After the last one comes `data: [DONE]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChatTurnEvent {
    /// First: what was said is kept (it will be there whatever happens from now on), and the model is asked.
    Start {
        /// The conversation; none if it is not kept.
        conversation: Option<Conversation>,
        /// What was said, as it is kept; none if it is not, or if only the answer is new.
        user_message: Option<ConversationMessage>,
        /// The id of the answer to come.
        message_id: String,
    },
    /// The conversation did not fit: its oldest turns were left out of the prompt.
    Trimmed {
        /// How many.
        left_out_turns: u64,
    },
    /// The answer goes on. One of the fields is present.
    Delta {
        /// New text.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// New thought.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reasoning: Option<String>,
        /// A call of a tool, whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tool_call: Option<ToolCall>,
    },
    /// Last: the whole answer, as it is kept.
    Done {
        /// The conversation as it is now; none if it is not kept.
        conversation: Option<Conversation>,
        /// The answer.
        message: ConversationMessage,
    },
    /// Last, where it failed: what was written until then is kept.
    Error {
        /// What went wrong.
        error: ErrorBody,
        /// The answer so far.
        message: ConversationMessage,
    },
}
