//! Calls of tools in a model's answer: how families write them ([`ToolFormat`]), and finding them as the answer streams
//! ([`ToolCallParser`]).

mod format;
mod parser;
mod scan;
mod shape;
mod xml;

pub use format::ToolFormat;
pub use parser::ToolCallParser;

/// One call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Which call of the answer, from 0.
    pub index: usize,
    /// The function's name.
    pub name: String,
    /// Its arguments: the text of a JSON object.
    pub arguments: String,
    /// The model's own text, markers included; shared by calls written in one list, and then on the first only.
    pub raw: String,
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolEvent {
    /// Text for the reader.
    Content(String),
    /// A call.
    Call(ToolCall),
}
