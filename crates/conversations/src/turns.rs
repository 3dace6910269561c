//! Saying something: what is said and the place of its answer are stored together, before any model is asked.

use perch_protocol::conversations::{Conversation, ConversationMessage, MessageState, NewConversation};
use perch_protocol::openai::{Content, Role};
use rusqlite::Connection;

use crate::error::StoreError;
use crate::id::{new_id, now};
use crate::{blobs, conversations, messages, validate};

/// Where something is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parent {
    /// At the end of the branch that is shown.
    Head,
    /// As an alternative to the first message.
    Root,
    /// After this message.
    Message(String),
}

/// What is said.
#[derive(Debug, Clone)]
pub struct Said {
    /// In which conversation; a new one otherwise.
    pub conversation: Result<String, NewConversation>,
    /// Where in it.
    pub parent: Parent,
    /// The words; without them, one more answer to the user's message `parent` (or the last of the branch) is wanted.
    pub content: Option<Content>,
    /// The model that is to answer.
    pub model: Option<String>,
}

/// What was stored.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The conversation, what was said included.
    pub conversation: Conversation,
    /// What was said, if it is new.
    pub user_message: Option<ConversationMessage>,
    /// The place of the answer, in the state `running`.
    pub answer: ConversationMessage,
}

impl Turn {
    /// A turn of a conversation that is not kept.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], as if it were kept.
    pub fn unkept(wanted: NewConversation, content: Content) -> Result<Self, StoreError> {
        let conversation = conversations::new(wanted)?;
        validate::content(&content, "message")?;
        let said = blank(Role::User, content, MessageState::Complete);
        let mut answer = blank(Role::Assistant, Content::Text(String::new()), MessageState::Running);
        answer.parent = Some(said.id.clone());
        answer.model.clone_from(&conversation.model);
        Ok(Self { conversation, user_message: Some(said), answer })
    }
}

/// A message of now, without its place.
pub(crate) fn blank(role: Role, content: Content, state: MessageState) -> ConversationMessage {
    ConversationMessage {
        id: new_id(),
        parent: None,
        role,
        content,
        reasoning: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
        model: None,
        state,
        finish_reason: None,
        error: None,
        usage: None,
        timings: None,
        left_out_turns: 0,
        created_at: now(),
    }
}

pub(crate) fn say(connection: &Connection, said: Said) -> Result<Turn, StoreError> {
    let (seq, conversation) = match said.conversation {
        Ok(id) => conversations::get(connection, &id)?,
        Err(wanted) => {
            let conversation = conversations::new(wanted)?;
            (conversations::insert(connection, &conversation)?, conversation)
        }
    };
    let row = (seq, conversation.id.as_str());
    let parent = match said.parent {
        Parent::Head => conversation.head.clone(),
        Parent::Root => None,
        Parent::Message(id) => Some(id),
    };
    let (user_message, asked) = match said.content {
        Some(mut content) => {
            validate::content(&content, "message")?;
            blobs::take_in(connection, &mut content)?;
            let mut message = blank(Role::User, content, MessageState::Complete);
            message.parent = parent;
            let at = messages::insert(connection, row, &message)?;
            conversations::grown(connection, seq, at, Role::User)?;
            let asked = message.id.clone();
            (Some(message), asked)
        }
        None => (None, question(connection, seq, parent)?),
    };
    let mut answer = blank(Role::Assistant, Content::Text(String::new()), MessageState::Running);
    answer.parent = Some(asked);
    answer.model = said.model;
    let at = messages::insert(connection, row, &answer)?;
    conversations::grown(connection, seq, at, Role::Assistant)?;
    let conversation = conversations::get(connection, &conversation.id)?.1;
    Ok(Turn { conversation, user_message, answer })
}

/// The user's message that one more answer is wanted to.
fn question(connection: &Connection, conversation: i64, last: Option<String>) -> Result<String, StoreError> {
    let nothing =
        || StoreError::invalid("regenerate", "nothing was said in this conversation that could be answered");
    let last = last.ok_or_else(nothing)?;
    let seq = messages::seq_of(connection, conversation, &last)?;
    let path = messages::path(connection, seq)?;
    let asked = path.into_iter().rev().find(|message| matches!(message.role, Role::User | Role::Tool));
    Ok(asked.ok_or_else(nothing)?.id)
}
