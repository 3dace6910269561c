//! Conversations that leave and come in: as JSON, which loses nothing, and as Markdown.

use std::collections::HashMap;

use perch_protocol::conversations::{Conversation, ConversationDetail, ConversationExport};
use rusqlite::Connection;

use crate::error::StoreError;
use crate::id::new_id;
use crate::{blobs, conversations, markdown, messages, validate};

/// What an export calls itself.
const FORMAT: &str = "perch-conversations";
const VERSION: u32 = 1;

/// A conversation with some of its messages: the newest `limit` before the message `before`.
pub(crate) fn detail(
    connection: &Connection,
    id: &str,
    limit: Option<u32>,
    before: Option<&str>,
) -> Result<ConversationDetail, StoreError> {
    let (seq, conversation) = conversations::get(connection, id)?;
    let before = before.map(|before| messages::seq_of(connection, seq, before)).transpose()?;
    let (messages, has_more) = messages::page(connection, seq, before, limit)?;
    Ok(ConversationDetail { conversation, messages, has_more })
}

/// The whole of a conversation, images included.
pub(crate) fn export(connection: &Connection, id: &str) -> Result<ConversationExport, StoreError> {
    let mut detail = detail(connection, id, None, None)?;
    for message in &mut detail.messages {
        blobs::put_out(connection, &mut message.content)?;
    }
    Ok(ConversationExport {
        format: Some(FORMAT.to_owned()),
        version: Some(VERSION),
        conversations: Some(vec![detail]),
        markdown: None,
    })
}

/// The branch that is shown, to read.
pub(crate) fn export_markdown(connection: &Connection, id: &str) -> Result<String, StoreError> {
    let (seq, conversation) = conversations::get(connection, id)?;
    let head =
        conversation.head.as_deref().map(|head| messages::seq_of(connection, seq, head)).transpose()?;
    let path = head.map(|head| messages::path(connection, head)).transpose()?.unwrap_or_default();
    Ok(markdown::write(&conversation, &path))
}

/// The conversations of an import, checked.
pub(crate) fn read(import: ConversationExport) -> Result<Vec<ConversationDetail>, StoreError> {
    let details = match (import.conversations, import.markdown) {
        (Some(conversations), None) => {
            if import.format.as_deref() != Some(FORMAT) {
                return Err(StoreError::invalid("format", format!("format must be `{FORMAT}`")));
            }
            if import.version != Some(VERSION) {
                let message = format!("version must be {VERSION}; a later one needs a later Perch");
                return Err(StoreError::invalid("version", message));
            }
            conversations
        }
        (None, Some(text)) => vec![markdown::read(&text)?],
        _ => {
            let message = "send an export as it is, or {\"markdown\": \"…\"}";
            return Err(StoreError::invalid("conversations", message));
        }
    };
    for (i, detail) in details.iter().enumerate() {
        validate::detail(detail, &format!("conversations[{i}]"))?;
    }
    Ok(details)
}

/// Stores what was read; `copy` gives it new ids.
pub(crate) fn import(
    connection: &Connection,
    details: Vec<ConversationDetail>,
    copy: bool,
) -> Result<Vec<Conversation>, StoreError> {
    let one = |detail| store(connection, if copy { renamed(detail) } else { detail });
    details.into_iter().map(one).collect()
}

fn store(connection: &Connection, detail: ConversationDetail) -> Result<Conversation, StoreError> {
    let ConversationDetail { conversation, messages, .. } = detail;
    if conversations::get(connection, &conversation.id).is_ok() {
        let message = format!(
            "the conversation `{}` is there already; delete it, or import with copy=true to have both",
            conversation.id
        );
        return Err(StoreError::Conflict(message));
    }
    let seq = conversations::insert(connection, &conversation)?;
    for mut message in messages {
        blobs::take_in(connection, &mut message.content)?;
        message.state = messages::settled(message.state);
        messages::insert(connection, (seq, &conversation.id), &message)?;
    }
    let head =
        conversation.head.as_deref().map(|head| messages::seq_of(connection, seq, head)).transpose()?;
    conversations::set_head(connection, seq, head)?;
    Ok(conversations::get(connection, &conversation.id)?.1)
}

/// The same with new ids.
fn renamed(mut detail: ConversationDetail) -> ConversationDetail {
    let new: HashMap<String, String> =
        detail.messages.iter().map(|message| (message.id.clone(), new_id())).collect();
    detail.conversation.id = new_id();
    detail.conversation.head = detail.conversation.head.and_then(|head| new.get(&head).cloned());
    for message in &mut detail.messages {
        message.parent = message.parent.take().and_then(|parent| new.get(&parent).cloned());
        message.id = new[&message.id].clone();
    }
    detail
}
