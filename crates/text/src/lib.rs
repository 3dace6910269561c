//! Everything between text and token ids, and between a model's raw answer and its parts.
//!
//! | noun | what it is |
//! |---|---|
//! | [`Tokenizer`] | text to ids and back, from `tokenizer.json`, GGUF metadata or `tokenizer.model` |
//! | [`Detokenizer`] | ids to text as they come, never half a character |
//! | [`StopStrings`] | stop strings across token borders |
//! | [`ChatTemplate`] | a conversation to a prompt, with limits, as Hugging Face renders it |
//! | [`ReasoningParser`] | splits thinking from answer |
//! | [`ToolCallParser`] | finds tool calls; what only looks like one stays content |
//! | [`OutputParser`] | both of them in a row, chosen by [`OutputFormat::detect`] |
//!
//! Invariants: nothing here does input or output, reads the network or keeps global state; model files are hostile
//! (typed errors, bounded memory), model output is unreliable (parsers lose no character and never fail).

mod detokenizer;
mod error;
mod markers;
mod output;
mod reasoning;
mod stop;
mod template;
mod tokenizer;
mod tools;

pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use output::{OutputEvent, OutputFormat, OutputParser};
pub use reasoning::{ReasoningEvent, ReasoningFormat, ReasoningParser};
pub use stop::{StopStep, StopStrings};
pub use template::{
    ChatTemplate, TemplateError, TemplateFeatures, TemplateInput, TemplateSet, TemplateTokens,
    fallback_template,
};
pub use tokenizer::{GgufVocab, Special, Tokenizer};
pub use tools::{ToolCall, ToolCallParser, ToolEvent, ToolFormat};
