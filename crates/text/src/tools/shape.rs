//! `Shape`: how a family writes one call: what opens it, where the name stands, what closes it.

use serde_json::Value;

/// Where the name of the function stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Named {
    /// In the JSON: `{"name": …, "arguments": …}`, one or a list.
    Inside,
    /// In the text before the JSON, which is the arguments.
    Before(fn(&str) -> Option<&str>),
}

/// One way of writing calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) open: &'static str,
    pub(super) named: Named,
    /// Markers that may follow the JSON, each at most once and in this order, white space between.
    pub(super) close: &'static [&'static str],
    /// Only where the answer begins, because the opening is no marker of its own.
    pub(super) anchored: bool,
}

const fn marked(open: &'static str, close: &'static [&'static str]) -> Shape {
    Shape { open, named: Named::Inside, close, anchored: false }
}

const fn named(open: &'static str, name: fn(&str) -> Option<&str>, close: &'static [&'static str]) -> Shape {
    Shape { open, named: Named::Before(name), close, anchored: false }
}

/// JSON without any marker.
const fn bare(open: &'static str, close: &'static [&'static str]) -> Shape {
    Shape { open, named: Named::Inside, close, anchored: true }
}

/// Hermes, Qwen2.5, Qwen3, SmolLM3, Granite 4: `<tool_call>{…}</tool_call>`. Also opens Qwen3-Coder's XML.
pub(super) const HERMES: &[Shape] = &[marked("<tool_call>", &["</tool_call>"])];

/// Qwen3-Coder: `<tool_call><function=name>…`, where the first tag is often forgotten.
pub(super) const QWEN_XML: &[Shape] =
    &[marked("<tool_call>", &["</tool_call>"]), marked("<function=", &["</tool_call>"])];

/// Llama 3.x: the bare object, after `<|python_tag|>` or not, several with `;` between; `<function=name>{…}`.
pub(super) const LLAMA3: &[Shape] = &[
    marked("<|python_tag|>", &[";"]),
    named("<function=", name_in_tag, &["</function>"]),
    bare("{", &[";"]),
];

/// Mistral: `[TOOL_CALLS][{…}]`, since v11 `[TOOL_CALLS]name[CALL_ID]id[ARGS]{…}`.
pub(super) const MISTRAL: &[Shape] = &[named("[TOOL_CALLS]", name_before_bracket, &[])];

/// Granite 3 and Phi-4 mini: `<|tool_call|>[…]<|/tool_call|>`.
pub(super) const GRANITE: &[Shape] =
    &[marked("<|tool_call|>", &["<|/tool_call|>"]), marked("<tool_call>", &["</tool_call>"])];

/// Harmony: `<|channel|>commentary to=functions.name <|constrain|>json<|message|>{…}<|call|>`, in either order.
pub(super) const HARMONY: &[Shape] = &[
    named("<|channel|>", recipient, &["<|call|>", "<|end|>", "<|return|>"]),
    named(" to=", recipient, &["<|call|>", "<|end|>", "<|return|>"]),
];

const DEEPSEEK_CLOSE: &[&str] = &["```", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"];

/// DeepSeek R1, V3 and V3.1.
pub(super) const DEEPSEEK: &[Shape] = &[
    named("<｜tool▁calls▁begin｜>", name_at_separator, DEEPSEEK_CLOSE),
    named("<｜tool▁call▁begin｜>", name_at_separator, DEEPSEEK_CLOSE),
];

/// Any other model that was shown tools: the bare object or a list of them.
pub(super) const JSON: &[Shape] = &[bare("{", &[]), bare("[", &[]), marked("<tool_call>", &["</tool_call>"])];

fn name_in_tag(head: &str) -> Option<&str> {
    head.trim().strip_suffix('>')
}

fn name_before_bracket(head: &str) -> Option<&str> {
    head.split('[').next()
}

fn recipient(head: &str) -> Option<&str> {
    let name = head.split("functions.").nth(1)?;
    name.split(|c: char| c.is_whitespace() || c == '<').next()
}

/// `function<sep>name` and a code fence, or `name<sep>`.
fn name_at_separator(head: &str) -> Option<&str> {
    let (before, after) = head.rsplit_once("<｜tool▁sep｜>")?;
    let fenced = after.trim().strip_suffix("```json").unwrap_or(after).trim();
    if fenced.is_empty() { before.rsplit("<｜tool▁call▁begin｜>").next() } else { Some(fenced) }
}

/// Whether a function may be called so.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    !name.is_empty() && name.len() <= 256 && name.chars().all(allowed)
}

/// Name and arguments (as JSON text) of `{"name", "arguments" | "parameters"}`, also within `"function"`.
pub(super) fn call_in(value: &Value) -> Option<(String, String)> {
    let object = value.get("function").filter(|inner| inner.is_object()).unwrap_or(value);
    // Llama 3.2 writes {"type": "function", "name": …}; some finetunes {"function": "name", …}.
    let name = object.get("name").or_else(|| object.get("function")).and_then(Value::as_str)?;
    let arguments = ["arguments", "parameters", "args"].iter().find_map(|key| object.get(*key));
    let arguments = match arguments {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(object @ Value::Object(_)) => object.to_string(),
        // Arguments that are JSON text within JSON.
        Some(Value::String(text)) => {
            serde_json::from_str::<Value>(text).ok().filter(Value::is_object)?;
            text.clone()
        }
        Some(_) => return None,
    };
    is_name(name).then(|| (name.to_owned(), arguments))
}
