//! The grammar of an answer that calls tools: each family's own notation, with arguments that fit the tools' schemas.
//!
//! Written in llguidance's dialect of Lark. Markers that are tokens of their own are named by their id, so that no text
//! can stand for them.

use std::fmt::Write;

use perch_text::{Tokenizer, ToolFormat};
use serde_json::{Map, Value, json};

use super::constrain::guided;
use crate::error::ApiError;

/// White space that may stand between what a model thinks and its answer.
const LEAD: &str = r"/[\n ]{1,4}/?";

/// What an answer may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// How the model writes its calls.
    pub(super) format: ToolFormat,
    /// The source of its chat template.
    pub(super) template: &'a str,
    /// The tools that may be called, in OpenAI's form, at least one.
    pub(super) tools: &'a [Value],
    /// Whether one call is all.
    pub(super) one_call: bool,
    /// What the answer fits instead of being calls; `None` where it must be calls.
    pub(super) schema: Option<&'a Value>,
}

/// The grammar.
///
/// # Errors
/// `unsupported_parameter` where calls cannot be told from answers.
pub(super) fn grammar(wanted: Wanted<'_>, tokenizer: &Tokenizer) -> Result<String, ApiError> {
    let bare = matches!(wanted.format, ToolFormat::Json | ToolFormat::Llama3);
    if bare && wanted.schema.is_some() {
        let message = "this model writes calls of tools as bare JSON, which an answer in JSON cannot be told from; leave \
                       out `tools` or `response_format`, or use another model";
        return Err(ApiError::unsupported("response_format", message));
    }
    let notation = Notation { tokenizer, wanted };
    let mut rules = match wanted.format {
        ToolFormat::Harmony => notation.harmony(),
        _ => {
            let answer = if wanted.schema.is_some() { " | answer" } else { "" };
            format!("start: {LEAD} ( calls{answer} )\n{}", notation.calls())
        }
    };
    if let Some(schema) = wanted.schema {
        let _ = writeln!(rules, "answer: %json {}", guided(schema, false));
    }
    for (i, tool) in wanted.tools.iter().enumerate() {
        let _ = writeln!(rules, "arguments{i}: %json {}", guided(&parameters(tool), true));
    }
    Ok(rules)
}

/// Writes the rules of one request.
struct Notation<'a> {
    tokenizer: &'a Tokenizer,
    wanted: Wanted<'a>,
}

impl Notation<'_> {
    /// Rules for `calls`.
    fn calls(&self) -> String {
        let m = |marker: &str| self.marker(marker);
        let lit = |text: &str| Value::from(text).to_string();
        match self.wanted.format {
            ToolFormat::QwenXml => {
                let (open, close) = (m("<tool_call>"), m("</tool_call>"));
                let body =
                    self.any(|i, name| format!("{} parameters{i}", lit(&format!("\n<function={name}>\n"))));
                let call = format!("{open} ( {body} ) {} {close}", lit("</function>\n"));
                format!("{}call: {call}\n{}", self.repeated(&lit("\n")), self.xml_parameters())
            }
            ToolFormat::Llama3 => {
                let call = self.any(|i, name| object(i, name, "parameters"));
                format!("{}call: {call}\n", self.repeated(&lit("; ")))
            }
            ToolFormat::Mistral if self.tokenizer.special_id("[ARGS]").is_some() => {
                let call = self.any(|i, name| {
                    format!("{} {} {} arguments{i}", m("[TOOL_CALLS]"), lit(name), m("[ARGS]"))
                });
                format!("{}call: {call}\n", self.repeated("\"\""))
            }
            ToolFormat::Mistral => self.listed(&m("[TOOL_CALLS]"), "\"\""),
            ToolFormat::Granite => {
                let close = match self.wanted.template.contains("<|/tool_call|>") {
                    true => m("<|/tool_call|>"),
                    false => "\"\"".to_owned(),
                };
                self.listed(&m("<|tool_call|>"), &close)
            }
            ToolFormat::DeepSeek => {
                // V3.1 names the function before the separator; what came before named its kind there.
                let fenced = self.wanted.template.contains("```json");
                let sep = m("<｜tool▁sep｜>");
                let call = self.any(|i, name| match fenced {
                    true => format!(
                        "\"function\" {sep} {} arguments{i} {}",
                        lit(&format!("{name}\n```json\n")),
                        lit("\n```")
                    ),
                    false => format!("{} {sep} arguments{i}", lit(name)),
                });
                let repeated = self.repeated("\"\"").replace("calls:", "all:");
                format!(
                    "calls: {} all {}\n{repeated}call: {} ( {call} ) {}\n",
                    m("<｜tool▁calls▁begin｜>"),
                    m("<｜tool▁calls▁end｜>"),
                    m("<｜tool▁call▁begin｜>"),
                    m("<｜tool▁call▁end｜>"),
                )
            }
            ToolFormat::Json => format!("calls: {}\n", self.any(|i, name| object(i, name, "arguments"))),
            // Hermes, and what is like it.
            _ => {
                let body = self.any(|i, name| object(i, name, "arguments"));
                let call = format!(
                    "{} {} ( {body} ) {} {}",
                    m("<tool_call>"),
                    lit("\n"),
                    lit("\n"),
                    m("</tool_call>")
                );
                format!("{}call: {call}\n", self.repeated(&lit("\n")))
            }
        }
    }

    /// A list of objects behind a marker.
    fn listed(&self, open: &str, close: &str) -> String {
        let call = self.any(|i, name| object(i, name, "arguments"));
        let more = if self.wanted.one_call { "" } else { " ( \", \" call )*" };
        format!("calls: {open} \"[\" call{more} \"]\" {close}\ncall: {call}\n")
    }

    /// Messages: thinking first, if any, then calls or the answer.
    fn harmony(&self) -> String {
        let m = |marker: &str| self.marker(marker);
        let (channel, message) = (m("<|channel|>"), m("<|message|>"));
        let constrain = match self.tokenizer.special_id("<|constrain|>") {
            Some(_) => format!("\" \" {} \"json\"", m("<|constrain|>")),
            None => "\"\"".to_owned(),
        };
        let call = self.any(|i, name| {
            let to = Value::from(format!("commentary to=functions.{name}"));
            format!("{channel} {to} {constrain} {message} arguments{i}")
        });
        let last = match self.wanted.schema {
            Some(_) => format!("calls | {channel} \"final\" {message} answer"),
            None => "calls".to_owned(),
        };
        let next = format!("{} {} \"assistant\"", m("<|end|>"), m("<|start|>"));
        format!(
            "start: thought? ( {last} )\nthought: {channel} \"analysis\" {message} TEXT {next}\nTEXT: /(.|\\n)+/\n\
             calls: {call}\n"
        )
    }

    /// The parameters of each tool as `<parameter=…>`, those that need not be there each at most once, in the schema's
    /// order. Text stands bare, all else as JSON.
    fn xml_parameters(&self) -> String {
        let mut rules = String::new();
        for (i, tool) in self.wanted.tools.iter().enumerate() {
            let schema = parameters(tool);
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            let required =
                |key: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|k| k == key));
            let mut body = Vec::new();
            for (j, (key, of)) in properties.iter().enumerate() {
                let open = Value::from(format!("<parameter={key}>\n"));
                let rule = format!("p{i}_{j}");
                let text = of["type"] == "string" && of.get("enum").is_none();
                let _ = match text {
                    true => writeln!(rules, "{rule}: {open} v{i}_{j}").and_then(|()| {
                        writeln!(rules, "v{i}_{j}[suffix=\"\\n</parameter>\\n\"]: /(.|\\n)*/")
                    }),
                    false => writeln!(
                        rules,
                        "{rule}: {open} v{i}_{j} \"\\n</parameter>\\n\"\nv{i}_{j}: {}",
                        value_rule(of)
                    ),
                };
                body.push(if required(key) { rule } else { format!("{rule}?") });
            }
            let body = if body.is_empty() { "\"\"".to_owned() } else { body.join(" ") };
            let _ = writeln!(rules, "parameters{i}: {body}");
        }
        rules
    }

    /// Any of the tools.
    fn any(&self, one: impl Fn(usize, &str) -> String) -> String {
        let named = |(i, tool)| one(i, function(tool)["name"].as_str().unwrap_or_default());
        let all: Vec<String> = self.wanted.tools.iter().enumerate().map(named).collect();
        all.join(" | ")
    }

    /// One call, or several.
    fn repeated(&self, between: &str) -> String {
        match self.wanted.one_call {
            true => "calls: call\n".to_owned(),
            false => format!("calls: call ( {between} call )*\n"),
        }
    }

    /// A marker as the one token that it is, else as text.
    fn marker(&self, text: &str) -> String {
        match self.tokenizer.special_id(text) {
            Some(id) => format!("<[{id}]>"),
            None => Value::from(text).to_string(),
        }
    }
}

/// `{"name": …, "arguments": …}`
fn object(i: usize, name: &str, key: &str) -> String {
    let head = Value::from(format!("{{\"name\": {}, \"{key}\": ", Value::from(name)));
    format!("( {head} arguments{i} \"}}\" )")
}

/// A value that is no free text, in the way that Qwen3-Coder's are read: words of an enumeration bare, all else as JSON.
fn value_rule(schema: &Value) -> String {
    let words: Option<Vec<String>> = schema["enum"]
        .as_array()
        .map(|all| all.iter().map(|word| Value::from(plain(word)).to_string()).collect());
    match words.filter(|words| !words.is_empty()) {
        Some(words) => words.join(" | "),
        None => format!("%json {}", guided(schema, true)),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn function(tool: &Value) -> &Value {
    tool.get("function").unwrap_or(tool)
}

/// The schema of a tool's arguments, which are an object whatever it says.
fn parameters(tool: &Value) -> Value {
    match function(tool).get("parameters") {
        Some(Value::Object(schema)) if schema.contains_key("type") || schema.contains_key("$ref") => {
            Value::Object(schema.clone())
        }
        Some(Value::Object(schema)) => {
            let mut schema = schema.clone();
            schema.insert("type".into(), "object".into());
            Value::Object(schema)
        }
        _ => json!({"type": "object"}),
    }
}
