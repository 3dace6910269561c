//! Checks a conversation, message by message, and brings it into the form that templates read.

use perch_protocol::openai::{Content, ContentPart, Message, Role};
use serde_json::{Map, Value, json};

use crate::error::ApiError;

/// The conversation for a template. `developer` becomes `system`; absent fields stay absent, as templates ask for them.
pub(super) fn for_template(messages: Vec<Message>) -> Result<Vec<Value>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "`messages` must hold at least one message"));
    }
    messages.into_iter().enumerate().map(|(index, message)| one(index, message)).collect()
}

fn one(index: usize, message: Message) -> Result<Value, ApiError> {
    let at = |field: &str| format!("messages[{index}].{field}");
    let role = match message.role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    let is_assistant = message.role == Role::Assistant;
    let mut map = Map::new();
    map.insert("role".into(), role.into());

    let calls = message.tool_calls.unwrap_or_default();
    let content = match (message.content, message.refusal) {
        (Some(content), _) => content_value(content, &at("content"))?,
        (None, Some(refusal)) => refusal.into(),
        (None, None) if is_assistant => "".into(),
        (None, None) => {
            return Err(ApiError::invalid(
                at("content"),
                format!("a message of the role `{role}` needs content"),
            ));
        }
    };
    map.insert("content".into(), content);

    if !calls.is_empty() {
        if !is_assistant {
            let message = "only the assistant calls tools; its role is `assistant`";
            return Err(ApiError::invalid(at("tool_calls"), message));
        }
        if let Some(other) = calls.iter().position(|call| call.kind != "function") {
            let path = at(&format!("tool_calls[{other}].type"));
            return Err(ApiError::unsupported(path, "only calls of the type `function` are supported"));
        }
        let calls = calls.into_iter().map(|call| {
            json!({"id": call.id, "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments}})
        });
        map.insert("tool_calls".into(), calls.collect());
    }
    if message.role == Role::Tool {
        let id = message.tool_call_id.ok_or_else(|| {
            ApiError::invalid(
                at("tool_call_id"),
                "a message of the role `tool` needs the id of the call it answers",
            )
        })?;
        map.insert("tool_call_id".into(), id.into());
    }
    if let Some(name) = message.name {
        map.insert("name".into(), name.into());
    }
    if let Some(thought) = message.reasoning_content.or(message.reasoning).filter(|_| is_assistant) {
        map.insert("reasoning_content".into(), thought.into());
    }
    Ok(map.into())
}

fn content_value(content: Content, path: &str) -> Result<Value, ApiError> {
    match content {
        Content::Text(text) => Ok(text.into()),
        Content::Parts(parts) => {
            parts.into_iter().enumerate().map(|(i, part)| part_value(part, &format!("{path}[{i}]"))).collect()
        }
    }
}

fn part_value(part: ContentPart, path: &str) -> Result<Value, ApiError> {
    let missing =
        |field: &str| ApiError::invalid(format!("{path}.{field}"), format!("this part needs `{field}`"));
    match part.kind.as_str() {
        "text" => Ok(json!({"type": "text", "text": part.text.ok_or_else(|| missing("text"))?})),
        "refusal" => Ok(json!({"type": "text", "text": part.refusal.ok_or_else(|| missing("refusal"))?})),
        "image_url" => Err(ApiError::unsupported(path, "this model cannot see images; send text only")),
        "input_audio" => Err(ApiError::unsupported(path, "this model cannot hear; send text only")),
        "file" => Err(ApiError::unsupported(path, "files are not supported; send their text")),
        other => {
            let message = format!("`{}` is no kind of content", other.chars().take(40).collect::<String>());
            Err(ApiError::invalid(format!("{path}.type"), message))
        }
    }
}
