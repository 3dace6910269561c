//! Qwen3-Coder's calls: `<function=name><parameter=key>value</parameter>…</function>`.
//!
//! Values are bare text; the tool's JSON schema says which of them are numbers, objects and so on.

use serde_json::{Map, Value};

use super::shape::is_name;

pub(super) const OPEN: &str = "<function=";
pub(super) const CLOSE: &str = "</function>";
const PARAMETER: &str = "<parameter=";
const PARAMETER_END: &str = "</parameter>";

/// Name and arguments of the text from `<function=` to `</function>`.
pub(super) fn parse(text: &str, tools: &[Value]) -> Option<(String, String)> {
    let body = text.trim().strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    let (name, mut rest) = body.split_once('>')?;
    let name = name.trim();
    let mut arguments = Map::new();
    while let Some(at) = rest.find(PARAMETER) {
        if !rest[..at].trim().is_empty() {
            return None;
        }
        let (key, value) = rest[at + PARAMETER.len()..].split_once('>')?;
        // The end tag is sometimes forgotten before the next parameter.
        let next = value.find(PARAMETER).unwrap_or(value.len());
        let (end, skip) =
            value[..next].rfind(PARAMETER_END).map_or((next, 0), |end| (end, PARAMETER_END.len()));
        let raw = &value[..end];
        let raw = raw.strip_prefix('\n').unwrap_or(raw);
        let raw = raw.strip_suffix('\n').unwrap_or(raw);
        arguments.insert(key.trim().to_owned(), typed(raw, kind_of(tools, name, key.trim())));
        rest = &value[end + skip..];
    }
    (rest.trim().is_empty() && is_name(name)).then(|| (name.to_owned(), Value::Object(arguments).to_string()))
}

/// The type that the tool's schema gives a parameter.
fn kind_of<'a>(tools: &'a [Value], name: &str, key: &str) -> Option<&'a str> {
    let tool =
        tools.iter().map(|tool| tool.get("function").unwrap_or(tool)).find(|tool| tool["name"] == name)?;
    tool.get("parameters")?.get("properties")?.get(key)?.get("type")?.as_str()
}

fn typed(raw: &str, kind: Option<&str>) -> Value {
    let text = || Value::String(raw.to_owned());
    match kind {
        None | Some("string") => text(),
        // Python's spelling is as common as JSON's.
        Some("boolean") if raw.trim().eq_ignore_ascii_case("true") => Value::Bool(true),
        Some("boolean") if raw.trim().eq_ignore_ascii_case("false") => Value::Bool(false),
        Some(_) if raw.trim() == "None" => Value::Null,
        Some(_) => serde_json::from_str(raw.trim()).unwrap_or_else(|_| text()),
    }
}
