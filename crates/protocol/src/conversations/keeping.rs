//! Making, listing, changing, forking and moving conversations.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Conversation, ConversationMessage, SamplingSettings};
use crate::Problem;

/// Body of `POST /api/v1/chat/new`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewConversation {
    /// What to call it; made from the first message if absent.
    pub title: Option<String>,
    /// The model that answers in it.
    pub model: Option<String>,
    /// What the model is told before the first message.
    pub system_prompt: Option<String>,
    /// How its answers are sampled.
    pub sampling: Option<SamplingSettings>,
    /// Keep it at the top.
    pub pinned: Option<bool>,
}

/// Body of `PATCH /api/v1/chat/conversation/{id}`: what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ConversationPatch {
    /// What to call it; an empty one is made from the first message again.
    pub title: Option<String>,
    /// The model that answers in it; an empty one leaves it to the server.
    pub model: Option<String>,
    /// What the model is told before the first message; an empty one leaves it to the server.
    pub system_prompt: Option<String>,
    /// How its answers are sampled; replaces all settings.
    pub sampling: Option<SamplingSettings>,
    /// Whether to keep it at the top.
    pub pinned: Option<bool>,
    /// The message at the end of the branch to show.
    pub head: Option<String>,
}

/// Query of `GET /api/v1/chat/conversations`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConversationQuery {
    /// Words to look for in titles and messages; all must be there, the last may be a beginning. "In quotes", words stand
    /// together. Capitals and accents do not matter.
    pub q: Option<String>,
    /// Conversations on a page, 1 to 200; 50 if absent.
    pub limit: Option<u32>,
    /// Where the page before ended: its `next_cursor`.
    pub cursor: Option<String>,
    /// Only those that are pinned, or only those that are not.
    pub pinned: Option<bool>,
}

/// Answer of `GET /api/v1/chat/conversations`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConversationList {
    /// The last changed first; in a search, the one with the newest hit first.
    pub conversations: Vec<Conversation>,
    /// `cursor` of the next page; none after the last.
    pub next_cursor: Option<String>,
    /// What is to be known about the file that holds them: that it was damaged and what became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Problem>,
}

/// Query of `GET /api/v1/chat/conversation/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MessageQuery {
    /// At most so many messages, the newest; all if absent.
    pub limit: Option<u32>,
    /// Only messages stored before this one.
    pub before: Option<String>,
}

/// A conversation with its messages: answer of `GET /api/v1/chat/conversation/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConversationDetail {
    /// The conversation.
    pub conversation: Conversation,
    /// Its messages on all branches, in the order in which they were stored: parents before children.
    pub messages: Vec<ConversationMessage>,
    /// There are older messages than these.
    #[serde(default)]
    pub has_more: bool,
}

/// Body of `POST /api/v1/chat/conversation/{id}/fork`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForkRequest {
    /// The last message of the new conversation: it and all before it on its branch are copied.
    pub message_id: String,
    /// What to call the new conversation; the old title if absent.
    #[serde(default)]
    pub title: Option<String>,
}

/// Query of `GET /api/v1/chat/conversation/{id}/export`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `json` (everything; can be imported without loss) or `markdown` (the branch that is shown, to read).
    pub format: Option<String>,
}

/// What an export in JSON holds, and the body of `POST /api/v1/chat/import`: either conversations or a Markdown text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ConversationExport {
    /// Always `perch-conversations`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// Always 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversations: Option<Vec<ConversationDetail>>,
    /// A conversation in Markdown, as an export writes it, or with headings `## User` and `## Assistant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markdown: Option<String>,
}

/// Query of `POST /api/v1/chat/import`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ImportQuery {
    /// Give the conversations and messages new ids, so that what is imported stands beside what is there.
    pub copy: Option<bool>,
}

/// Answer of `POST /api/v1/chat/import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The conversations as they are now, without their messages.
    pub conversations: Vec<Conversation>,
}

/// Answer of `DELETE /api/v1/chat/conversation/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// What was deleted.
    pub id: String,
    /// Always true.
    pub deleted: bool,
}
