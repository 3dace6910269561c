//! `OutputParser`: a model's raw text into reasoning, content and tool calls; `OutputFormat` says how it writes them.

use serde_json::Value;

use crate::Tokenizer;
use crate::reasoning::{ReasoningEvent, ReasoningFormat, ReasoningParser};
use crate::tools::{ToolCall, ToolCallParser, ToolEvent, ToolFormat};

/// How a model marks the parts of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OutputFormat {
    /// Its thinking.
    pub reasoning: ReasoningFormat,
    /// Its calls of tools.
    pub tools: ToolFormat,
}

impl OutputFormat {
    /// By the template's text, else by the vocabulary's special tokens.
    pub fn detect(template: Option<&str>, tokenizer: &Tokenizer) -> Self {
        Self {
            reasoning: ReasoningFormat::detect(template, tokenizer),
            tools: ToolFormat::detect(template, tokenizer),
        }
    }

    /// Special tokens whose text the parsers need; for [`crate::Detokenizer::showing`].
    pub fn visible_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .reasoning
            .markers()
            .into_iter()
            .chain(self.tools.markers())
            .filter_map(|marker| tokenizer.special_id(marker))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A parser for the answer to the prompt that ends with `prompt_tail`. Calls are looked for only if the request
    /// has `tools` (in OpenAI's form).
    pub fn parser(&self, prompt_tail: &str, tools: &[Value]) -> OutputParser {
        // Harmony's calls are messages of their own, to be recognised even when nobody offered a tool.
        let calls = !tools.is_empty() || self.tools == ToolFormat::Harmony;
        OutputParser {
            reasoning: ReasoningParser::new(self.reasoning, prompt_tail),
            tools: calls.then(|| ToolCallParser::new(self.tools, tools)),
        }
    }
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputEvent {
    /// Thinking.
    Reasoning(String),
    /// Answer.
    Content(String),
    /// A whole call of a tool.
    ToolCall(ToolCall),
    /// All content so far was thinking (see [`ReasoningEvent::ContentWasReasoning`]).
    ContentWasReasoning,
}

/// Parses one answer.
#[derive(Debug, Clone)]
pub struct OutputParser {
    reasoning: ReasoningParser,
    tools: Option<ToolCallParser>,
}

impl OutputParser {
    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> Vec<OutputEvent> {
        let events = self.reasoning.push(text);
        self.pass_on(events)
    }

    /// The end of the answer: everything held back.
    pub fn finish(&mut self) -> Vec<OutputEvent> {
        let events = self.reasoning.finish();
        let mut events = self.pass_on(events);
        if let Some(tools) = &mut self.tools {
            events.extend(tools.finish().into_iter().map(OutputEvent::from));
        }
        events
    }

    fn pass_on(&mut self, events: Vec<ReasoningEvent>) -> Vec<OutputEvent> {
        let mut out = Vec::with_capacity(events.len());
        for event in events {
            // Thinking ends the content before it; what the tool-call parser held back comes first.
            if let (Some(tools), false) = (&mut self.tools, matches!(event, ReasoningEvent::Content(_))) {
                out.extend(tools.finish().into_iter().map(OutputEvent::from));
            }
            match (event, &mut self.tools) {
                (ReasoningEvent::Content(text), Some(tools)) => {
                    out.extend(tools.push(&text).into_iter().map(OutputEvent::from));
                }
                (ReasoningEvent::Content(text), None) => out.push(OutputEvent::Content(text)),
                (ReasoningEvent::Reasoning(text), _) => out.push(OutputEvent::Reasoning(text)),
                (ReasoningEvent::ContentWasReasoning, _) => out.push(OutputEvent::ContentWasReasoning),
            }
        }
        out
    }
}

impl From<ToolEvent> for OutputEvent {
    fn from(event: ToolEvent) -> Self {
        match event {
            ToolEvent::Content(text) => Self::Content(text),
            ToolEvent::Call(call) => Self::ToolCall(call),
        }
    }
}
