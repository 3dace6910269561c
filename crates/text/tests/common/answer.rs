//! Parsing a whole answer of a model, in one piece and cut into characters.

use perch_text::{OutputEvent, OutputFormat, ReasoningFormat, ToolCall, ToolFormat};
use serde_json::{Value, json};

pub const THINK: ReasoningFormat = ReasoningFormat::Tags { open: "<think>", close: "</think>" };

/// What an answer came to.
#[derive(Debug, PartialEq, Default)]
pub struct Answer {
    pub reasoning: String,
    pub content: String,
    pub calls: Vec<(String, Value)>,
    pub raw: String,
}

pub fn tools() -> Vec<Value> {
    let tool = |name: &str, properties: Value| {
        json!({"type": "function", "function": {"name": name,
        "parameters": {"type": "object", "properties": properties}}})
    };
    vec![
        tool(
            "get_weather",
            json!({"city": {"type": "string"}, "days": {"type": "integer"}, "deep": {"type": "object"}, "on": {"type": "boolean"}}),
        ),
        tool("write", json!({"path": {"type": "string"}, "text": {"type": "string"}})),
    ]
}

pub fn parse_pieces<'a>(format: OutputFormat, prompt: &str, pieces: impl Iterator<Item = &'a str>) -> Answer {
    let mut parser = format.parser(prompt, &tools());
    let mut events: Vec<OutputEvent> = pieces.flat_map(|piece| parser.push(piece)).collect();
    events.extend(parser.finish());
    let mut answer = Answer::default();
    for event in events {
        match event {
            OutputEvent::Reasoning(text) => {
                answer.reasoning += &text;
                answer.raw += &text;
            }
            OutputEvent::Content(text) => {
                answer.content += &text;
                answer.raw += &text;
            }
            OutputEvent::ToolCall(ToolCall { index, name, arguments, raw }) => {
                assert_eq!(index, answer.calls.len());
                let arguments: Value = serde_json::from_str(&arguments).unwrap();
                assert!(arguments.is_object());
                answer.calls.push((name, arguments));
                answer.raw += &raw;
            }
            OutputEvent::ContentWasReasoning => {
                answer.reasoning += &std::mem::take(&mut answer.content);
            }
        }
    }
    answer
}

/// Whole, and cut into characters: both must come to the same.
pub fn parse(format: OutputFormat, prompt: &str, text: &str) -> Answer {
    let whole = parse_pieces(format, prompt, std::iter::once(text));
    let chars: Vec<String> = text.chars().map(String::from).collect();
    let cut = parse_pieces(format, prompt, chars.iter().map(String::as_str));
    assert_eq!(whole, cut, "{text:?} depends on how it is cut");
    whole
}

pub fn with_tools(tools: ToolFormat) -> OutputFormat {
    OutputFormat { reasoning: ReasoningFormat::None, tools }
}

pub fn thinking(tools: ToolFormat) -> OutputFormat {
    OutputFormat { reasoning: THINK, tools }
}

pub fn weather(city: &str) -> (String, Value) {
    ("get_weather".to_owned(), json!({"city": city}))
}
