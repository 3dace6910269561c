//! `TemplateFeatures`: what a template can do, found out by rendering small conversations and looking for a needle.

use serde_json::{Value, json};

use super::{ChatTemplate, TemplateInput};

/// What a template can do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateFeatures {
    /// It shows the tools to the model.
    pub tools: bool,
    /// It writes the calls of earlier assistant turns.
    pub tool_calls: bool,
    /// It reads a call's arguments as an object; else as JSON text.
    pub object_arguments: bool,
    /// It has a place for a system message.
    pub system: bool,
    /// It reads content as plain text.
    pub text_content: bool,
    /// It reads content as a list of parts.
    pub part_content: bool,
    /// It reads `null` as the content of a turn that only calls tools; else that content is made empty.
    pub null_content: bool,
    /// It knows the variable `enable_thinking`.
    pub enable_thinking: bool,
}

const NEEDLE: &str = "qzneedle";

/// Finds out what `template` can do.
pub(super) fn probe(template: &ChatTemplate) -> TemplateFeatures {
    let user = json!({"role": "user", "content": "hi"});
    let render = |messages: &[Value], tools: Option<&[Value]>| {
        let input = TemplateInput { messages, tools, add_generation_prompt: true, ..Default::default() };
        template.render_as_is(&input).unwrap_or_default()
    };
    let shows = |messages: &[Value], tools: Option<&[Value]>| render(messages, tools).contains(NEEDLE);
    let tool = json!({"type": "function", "function": {"name": NEEDLE, "description": "d",
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": "d"}}, "required": ["a"]}}});
    let call = |arguments: Value, content: Value| {
        let call = json!({"id": "call00001", "type": "function",
            "function": {"name": "f", "arguments": arguments}});
        let turn = json!({"role": "assistant", "content": content, "tool_calls": [call]});
        render(&[user.clone(), turn], None)
    };
    // Some templates want null beside calls, some fail on it, some write it out.
    let null_content =
        [json!({NEEDLE: 1}), format!("{{\"{NEEDLE}\": 1}}").into()].into_iter().any(|arguments| {
            let text = call(arguments, Value::Null);
            text.contains(NEEDLE) && !text.contains("None")
        });
    let content = if null_content { Value::Null } else { "".into() };
    let object = call(json!({NEEDLE: 1}), content.clone());
    let text = call(format!("{{\"{NEEDLE}\": 1}}").into(), content);
    let object_ok = object.contains(NEEDLE) && !object.contains(&format!("'{NEEDLE}'"));
    let parts = render(&[json!({"role": "user", "content": [{"type": "text", "text": NEEDLE}]})], None);
    TemplateFeatures {
        tools: shows(std::slice::from_ref(&user), Some(std::slice::from_ref(&tool))),
        tool_calls: object_ok || text.contains(NEEDLE),
        object_arguments: object_ok,
        system: shows(&[json!({"role": "system", "content": NEEDLE}), user.clone()], None),
        text_content: shows(&[json!({"role": "user", "content": NEEDLE})], None),
        part_content: parts.contains(NEEDLE) && !parts.contains("'type'") && !parts.contains("\"type\""),
        null_content,
        enable_thinking: template.source().contains("enable_thinking"),
    }
}

impl TemplateFeatures {
    /// A message in the form that the template reads: text parts joined (or text wrapped into a part), arguments as
    /// an object or as text, thinking under each of its names.
    pub(super) fn adapt(&self, message: &Value) -> Value {
        let mut message = message.clone();
        alias_reasoning(&mut message);
        let calls = message.get("tool_calls").is_some_and(|calls| !calls.is_null());
        if calls && !self.null_content && message["content"].is_null() {
            message["content"] = "".into();
        }
        if let Some(content) = message.get_mut("content") {
            self.adapt_content(content);
        }
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            if let Some(arguments) = call.pointer_mut("/function/arguments") {
                self.adapt_arguments(arguments);
            }
        }
        message
    }

    fn adapt_content(&self, content: &mut Value) {
        let adapted = match &*content {
            Value::Array(parts) if self.text_content => {
                let texts: Option<Vec<&str>> =
                    parts.iter().map(|p| (p["type"] == "text").then(|| p["text"].as_str())?).collect();
                texts.map(|texts| Value::String(texts.concat()))
            }
            Value::String(text) if self.part_content && !self.text_content => {
                Some(json!([{"type": "text", "text": text}]))
            }
            _ => None,
        };
        if let Some(adapted) = adapted {
            *content = adapted;
        }
    }

    fn adapt_arguments(&self, arguments: &mut Value) {
        let adapted = match &*arguments {
            Value::String(text) if self.object_arguments => {
                let text = if text.trim().is_empty() { "{}" } else { text.as_str() };
                // Arguments that a model got wrong stay text, so that it sees what it wrote.
                serde_json::from_str(text).ok().filter(Value::is_object)
            }
            Value::Object(_) if !self.object_arguments => Some(Value::String(arguments.to_string())),
            _ => None,
        };
        if let Some(adapted) = adapted {
            *arguments = adapted;
        }
    }
}

/// Tools with an empty description and no parameters where they say nothing of them.
pub(super) fn complete_tools(tools: &[Value]) -> Vec<Value> {
    let mut tools = tools.to_vec();
    for function in tools.iter_mut().filter_map(|tool| tool.get_mut("function")?.as_object_mut()) {
        function.entry("description").or_insert_with(|| "".into());
        function.entry("parameters").or_insert_with(|| json!({"type": "object", "properties": {}}));
    }
    tools
}

/// Gives thinking the names that templates know, as transformers does: `reasoning_content`, and `thinking` (gpt-oss).
fn alias_reasoning(message: &mut Value) {
    let names = ["reasoning_content", "thinking", "reasoning"];
    let found = names.iter().find_map(|name| message.get(*name).filter(|value| !value.is_null()).cloned());
    if let (Some(reasoning), Some(message)) = (found, message.as_object_mut()) {
        message.entry("thinking").or_insert_with(|| reasoning.clone());
        message.insert("reasoning_content".to_owned(), reasoning);
    }
}
