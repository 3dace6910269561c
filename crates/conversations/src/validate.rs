//! What may be stored. Everything that comes in passes here, by whatever way.

use std::collections::HashSet;

use perch_protocol::conversations::{Conversation, ConversationDetail, ConversationMessage};
use perch_protocol::openai::{Content, Role};

use crate::blobs;
use crate::error::StoreError;
use crate::id::is_id;

/// Longest title, in characters.
const TITLE: usize = 200;
/// Longest name of a model.
const MODEL: usize = 512;
/// Longest system prompt, in bytes.
const SYSTEM_PROMPT: usize = 256 << 10;
/// Last moment that can be written with four digits of the year.
const LAST: u64 = 253_402_300_799_999;

/// Checks a conversation without its messages. `at` is the path to it: `conversations[0].conversation.`, or nothing.
pub(crate) fn conversation(conversation: &Conversation, at: &str) -> Result<(), StoreError> {
    let fail = |field: &str, message: String| Err(StoreError::invalid(format!("{at}{field}"), message));
    let one_line = |text: &str| !text.chars().any(char::is_control);
    let title = &conversation.title;
    if title.trim().is_empty() || title.chars().count() > TITLE || !one_line(title) {
        return fail("title", format!("a title must be one line of 1 to {TITLE} characters"));
    }
    if let Some(model) = &conversation.model
        && (model.is_empty() || model.len() > MODEL || !one_line(model))
    {
        return fail("model", format!("the name of a model must be one line of 1 to {MODEL} bytes"));
    }
    if let Some(prompt) = &conversation.system_prompt
        && (prompt.is_empty() || prompt.len() > SYSTEM_PROMPT)
    {
        return fail("system_prompt", format!("a system prompt must have 1 to {SYSTEM_PROMPT} bytes"));
    }
    for (field, time) in [("created_at", conversation.created_at), ("updated_at", conversation.updated_at)] {
        if time > LAST {
            return fail(field, format!("{field} must be milliseconds since 1970, at most {LAST}"));
        }
    }
    Ok(())
}

/// Checks what a message says.
pub(crate) fn content(content: &Content, at: &str) -> Result<(), StoreError> {
    let Content::Parts(parts) = content else { return Ok(()) };
    if parts.is_empty() {
        return Err(StoreError::invalid(at, "a message of parts must have at least one"));
    }
    for (i, part) in parts.iter().enumerate() {
        let fail =
            |field: &str, message: String| Err(StoreError::invalid(format!("{at}[{i}]{field}"), message));
        match (part.kind.as_str(), &part.text, &part.image_url) {
            ("text", Some(_), None) | ("image_url", None, Some(_)) => {}
            ("text", None, _) => return fail(".text", "a part of the type `text` needs `text`".to_owned()),
            ("image_url", _, None) => {
                return fail(".image_url", "a part of the type `image_url` needs `image_url`".to_owned());
            }
            ("text" | "image_url", ..) => {
                return fail("", "a part has a text or an image, not both".to_owned());
            }
            (kind, ..) => {
                let kind: String = kind.chars().take(40).collect();
                return fail(".type", format!("`{kind}` cannot be kept; parts are `text` or `image_url`"));
            }
        }
    }
    Ok(())
}

/// The addresses and `data:` URLs of a content's images.
pub fn images_of(content: &Content) -> impl Iterator<Item = &str> {
    let parts = match content {
        Content::Text(_) => &[][..],
        Content::Parts(parts) => parts,
    };
    parts.iter().filter_map(|part| Some(part.image_url.as_ref()?.url.as_str()))
}

/// Checks a conversation that comes from elsewhere, with its messages.
pub(crate) fn detail(detail: &ConversationDetail, at: &str) -> Result<(), StoreError> {
    let outer = format!("{at}.conversation.");
    conversation(&detail.conversation, &outer)?;
    let fail = |field: &str, message: String| Err(StoreError::invalid(format!("{at}.{field}"), message));
    let info = &detail.conversation;
    if !is_id(&info.id) {
        return fail("conversation.id", "an id is 32 lower-case hexadecimal digits".to_owned());
    }
    if info.found.is_some() {
        return fail("conversation.found", "`found` belongs to searches; leave it out".to_owned());
    }
    if detail.has_more {
        return fail("has_more", "this is a page of a conversation and not the whole; export it".to_owned());
    }
    if info.message_count != detail.messages.len() as u64 {
        let message =
            format!("it says {}, and there are {} messages", info.message_count, detail.messages.len());
        return fail("conversation.message_count", message);
    }
    let mut seen = HashSet::new();
    for (i, message) in detail.messages.iter().enumerate() {
        one(message, &seen, &format!("{at}.messages[{i}]"))?;
        if !seen.insert(message.id.as_str()) {
            return fail(&format!("messages[{i}].id"), format!("the id `{}` is there twice", message.id));
        }
    }
    match &info.head {
        Some(head) if !seen.contains(head.as_str()) => {
            fail("conversation.head", "there is no message with this id".to_owned())
        }
        None if !detail.messages.is_empty() => {
            fail("conversation.head", "a conversation with messages needs a head".to_owned())
        }
        _ => Ok(()),
    }
}

fn one(message: &ConversationMessage, before: &HashSet<&str>, at: &str) -> Result<(), StoreError> {
    let fail = |field: &str, reason: &str| Err(StoreError::invalid(format!("{at}.{field}"), reason));
    if !is_id(&message.id) {
        return fail("id", "an id is 32 lower-case hexadecimal digits");
    }
    if message.parent.as_ref().is_some_and(|parent| !before.contains(parent.as_str())) {
        return fail("parent", "a message's parent must stand before it in the same conversation");
    }
    if message.role == Role::Developer {
        return fail("role", "a message's role is user, assistant, tool or system");
    }
    if message.role != Role::Assistant && !message.tool_calls.is_empty() {
        return fail("tool_calls", "only the assistant calls tools");
    }
    if message.role == Role::Tool && message.tool_call_id.is_none() {
        return fail("tool_call_id", "a message of the role `tool` needs the id of the call it answers");
    }
    if message.created_at > LAST {
        return fail("created_at", "created_at must be milliseconds since 1970");
    }
    content(&message.content, &format!("{at}.content"))?;
    for url in images_of(&message.content) {
        if let Err(reason) = blobs::from_data_url(url) {
            return fail("content", &reason);
        }
    }
    Ok(())
}
