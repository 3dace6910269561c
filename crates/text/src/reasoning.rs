//! `ReasoningParser`: splits a model's raw text, as it streams, into its thinking and its answer.
//!
//! Two grammars: a pair of tags at the start of the answer (nearly all families), and Harmony's channels (gpt-oss).
//! Invariants: the result does not depend on how the text was cut; no character is lost but the tags themselves and
//! the white space beside them; thinking is only looked for where an answer begins, so an answer that talks about
//! `<think>` stays whole.

use crate::Tokenizer;
use crate::markers::{find_first, held_back};

/// How a model marks its thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReasoningFormat {
    /// It does not.
    #[default]
    None,
    /// Between two texts.
    Tags {
        /// What opens it; templates may have written it at the prompt's end already.
        open: &'static str,
        /// What closes it.
        close: &'static str,
    },
    /// Harmony: messages on the channels `analysis`, `commentary` and `final`.
    Harmony,
}

/// The pairs in use, by family: Qwen3, DeepSeek R1, SmolLM3, Granite 3.3 and most others; Magistral; Command R7B;
/// Seed-OSS; Granite 3.2.
const TAGS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("Here is my thought process:", "Here is my response:"),
];

/// What Granite 3.3 puts around its answer, after thinking only.
const ANSWER: (&str, &str) = ("<response>", "</response>");

/// Harmony's markers, all single special tokens.
pub(crate) const HARMONY: &[&str] =
    &["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>", "<|call|>"];

impl ReasoningFormat {
    /// By the template's text, else by the vocabulary's special tokens.
    pub fn detect(template: Option<&str>, tokenizer: &Tokenizer) -> Self {
        let known = |text: &str| tokenizer.special_id(text).is_some();
        let written = |text: &str| template.is_some_and(|template| template.contains(text));
        if (written("<|channel|>") || template.is_none()) && known("<|channel|>") && known("<|message|>") {
            return Self::Harmony;
        }
        let in_template = TAGS.iter().find(|(open, close)| written(open) || written(close));
        let in_vocab = || TAGS.iter().find(|(open, close)| known(open) && known(close));
        match in_template.or_else(in_vocab) {
            Some((open, close)) => Self::Tags { open, close },
            None => Self::None,
        }
    }

    /// The markers that must stay visible in the text.
    pub(crate) fn markers(&self) -> Vec<&'static str> {
        match self {
            Self::None => Vec::new(),
            Self::Tags { open, close } => vec![open, close],
            Self::Harmony => HARMONY.to_vec(),
        }
    }
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReasoningEvent {
    /// Thinking.
    Reasoning(String),
    /// Answer. For Harmony, calls of tools pass through in their raw form, for the tool-call parser.
    Content(String),
    /// The model closed a block that it never opened: all content so far was thinking. A stream cannot take it back;
    /// whoever collects the whole answer should.
    ContentWasReasoning,
}

/// Splits one answer.
#[derive(Debug, Clone)]
pub struct ReasoningParser {
    format: ReasoningFormat,
    state: State,
    buffer: String,
    /// White space at the end of the thinking so far, shown only if more thinking follows.
    space: String,
    /// The block has been closed, here or in the prompt.
    closed: bool,
    /// The answer stands between [`ANSWER`]'s tags.
    wrapped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far, of the answer or after the block.
    Start,
    /// In the block, at its first character.
    Opened,
    Reasoning,
    Content,
    /// Harmony: between messages or in a header.
    Header,
}

impl ReasoningParser {
    /// For an answer to the prompt that ends with `prompt_tail` (its last few hundred characters are enough).
    pub fn new(format: ReasoningFormat, prompt_tail: &str) -> Self {
        let mut parser = Self {
            format,
            state: State::Start,
            buffer: String::new(),
            space: String::new(),
            closed: false,
            wrapped: false,
        };
        match format {
            ReasoningFormat::None => parser.state = State::Content,
            ReasoningFormat::Tags { open, close } => {
                let tail = prompt_tail.trim_end();
                if tail.ends_with(open) {
                    parser.state = State::Opened;
                }
                parser.closed = tail.ends_with(close);
            }
            ReasoningFormat::Harmony => {
                parser.state = State::Header;
                // A prompt may have begun the message: `<|start|>assistant<|channel|>final<|message|>`.
                let begun = prompt_tail.rfind("<|start|>").map_or("", |at| &prompt_tail[at..]);
                let ended = ["<|end|>", "<|return|>", "<|call|>"].iter().any(|marker| begun.contains(marker));
                if !ended {
                    parser.push(begun);
                }
            }
        }
        parser
    }

    /// Whether the answer begins inside a block of thinking.
    pub fn starts_inside(&self) -> bool {
        matches!(self.state, State::Opened | State::Reasoning)
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<ReasoningEvent> {
        let mut events = Vec::new();
        if self.format == ReasoningFormat::None {
            emit(&mut events, ReasoningEvent::Content(text.to_owned()));
            return events;
        }
        self.buffer.push_str(text);
        while self.step(&mut events, false) {}
        events
    }

    /// The end of the answer.
    pub fn finish(&mut self) -> Vec<ReasoningEvent> {
        let mut events = Vec::new();
        while self.step(&mut events, true) {}
        let rest = std::mem::take(&mut self.buffer);
        match self.state {
            State::Opened | State::Reasoning => self.think(&mut events, &rest),
            // A header that never became a message says nothing to anyone.
            State::Header => {}
            State::Start | State::Content => emit(&mut events, ReasoningEvent::Content(rest)),
        }
        events
    }

    /// Consumes a part of the buffer; `false` when it needs more.
    fn step(&mut self, events: &mut Vec<ReasoningEvent>, last: bool) -> bool {
        match self.format {
            ReasoningFormat::None => false,
            ReasoningFormat::Harmony => self.step_harmony(events, last),
            ReasoningFormat::Tags { open, close } => self.step_tags(events, (open, close), last),
        }
    }

    fn step_tags(&mut self, events: &mut Vec<ReasoningEvent>, tags: (&str, &str), last: bool) -> bool {
        let (open, close) = tags;
        match self.state {
            State::Start => {
                let word = self.buffer.trim_start();
                if word.starts_with(open) {
                    let skip = self.buffer.len() - word.len() + open.len();
                    self.buffer.drain(..skip);
                    self.state = State::Opened;
                    return true;
                }
                if !last && open.starts_with(word) {
                    return false;
                }
                if let Some(rest) = word.strip_prefix(ANSWER.0).filter(|_| self.closed) {
                    self.buffer = rest.to_owned();
                    self.wrapped = true;
                    return true;
                }
                if !last && self.closed && ANSWER.0.starts_with(word) {
                    return false;
                }
                if self.closed {
                    // White space between the block and the answer belongs to neither.
                    self.buffer.drain(..self.buffer.len() - self.buffer.trim_start().len());
                }
                self.state = State::Content;
                true
            }
            State::Opened => {
                self.buffer.drain(..self.buffer.len() - self.buffer.trim_start().len());
                if self.buffer.is_empty() {
                    return false;
                }
                self.state = State::Reasoning;
                true
            }
            State::Reasoning => match self.take_until(&[close], last) {
                (text, Some(_)) => {
                    self.think(events, &text);
                    self.space.clear();
                    self.closed = true;
                    self.state = State::Start;
                    true
                }
                (text, None) => {
                    self.think(events, &text);
                    false
                }
            },
            State::Content | State::Header if self.wrapped => {
                let (text, end) = self.take_until(&[ANSWER.1], last);
                emit(events, ReasoningEvent::Content(text));
                self.wrapped = end.is_none();
                end.is_some()
            }
            State::Content | State::Header if self.closed => {
                emit(events, ReasoningEvent::Content(std::mem::take(&mut self.buffer)));
                false
            }
            State::Content | State::Header => match self.take_until(&[close], last) {
                (text, Some(_)) => {
                    emit(events, ReasoningEvent::Content(text));
                    events.push(ReasoningEvent::ContentWasReasoning);
                    self.closed = true;
                    self.state = State::Start;
                    true
                }
                (text, None) => {
                    emit(events, ReasoningEvent::Content(text));
                    false
                }
            },
        }
    }

    fn step_harmony(&mut self, events: &mut Vec<ReasoningEvent>, last: bool) -> bool {
        let ends = &["<|end|>", "<|return|>", "<|call|>", "<|start|>"];
        match self.state {
            State::Header | State::Start => {
                if let Some(at) = no_header(&self.buffer) {
                    self.buffer.drain(..at);
                    self.state = State::Content;
                    return true;
                }
                let Some(at) = self.buffer.find("<|message|>") else { return false };
                let header: String = self.buffer.drain(..at + "<|message|>".len()).collect();
                let channel = header.rsplit("<|channel|>").next().unwrap_or_default().trim_start();
                if header.contains(" to=") {
                    // The whole header stays, from the channel or the recipient on, for the tool-call parser.
                    let from = header.find("<|channel|>").unwrap_or(0);
                    let named = header.find(" to=").map_or(from, |to| from.min(to));
                    emit(events, ReasoningEvent::Content(header[named..].to_owned()));
                    self.state = State::Content;
                    self.closed = true;
                } else if channel.starts_with("analysis") {
                    self.state = State::Reasoning;
                } else {
                    self.state = State::Content;
                }
                true
            }
            State::Opened | State::Reasoning => {
                let (text, found) = self.take_until(ends, last);
                self.think(events, &text);
                if found.is_some() {
                    self.space.clear();
                    self.state = State::Header;
                }
                found.is_some()
            }
            State::Content => {
                let (text, found) = self.take_until(ends, last);
                emit(events, ReasoningEvent::Content(text));
                if let Some(marker) = found {
                    // `closed` here: this message is a call, whose end the tool-call parser wants to see.
                    if std::mem::take(&mut self.closed) {
                        let end = if marker == "<|start|>" { "<|end|>" } else { marker };
                        emit(events, ReasoningEvent::Content(end.to_owned()));
                    }
                    self.state = State::Header;
                }
                found.is_some()
            }
        }
    }

    /// Takes the text before the first of `markers`, and the marker; without one, all that cannot become one.
    fn take_until<'m>(&mut self, markers: &[&'m str], last: bool) -> (String, Option<&'m str>) {
        if let Some((at, marker)) = find_first(&self.buffer, markers) {
            let text = self.buffer[..at].to_owned();
            self.buffer.drain(..at + marker.len());
            return (text, Some(marker));
        }
        let keep = if last { 0 } else { held_back(&self.buffer, markers) };
        let rest = self.buffer.split_off(self.buffer.len() - keep);
        (std::mem::replace(&mut self.buffer, rest), None)
    }

    /// Shows thinking, keeping back white space that may turn out to be its end.
    fn think(&mut self, events: &mut Vec<ReasoningEvent>, text: &str) {
        let words = text.trim_end();
        if words.is_empty() {
            return self.space.push_str(text);
        }
        let shown = std::mem::take(&mut self.space) + words;
        self.space = text[words.len()..].to_owned();
        emit(events, ReasoningEvent::Reasoning(shown));
    }
}

/// Where plain text begins in what should be a message's header; `None` while it may be one. Finetuned models forget
/// the format, and their answer is still an answer.
fn no_header(text: &str) -> Option<usize> {
    let begun = text.strip_prefix("<|start|>").map(|rest| rest.strip_prefix("assistant").unwrap_or(rest));
    let rest = begun.unwrap_or(text);
    let expected: &[&str] = if begun.is_some() { &["<|", " to=", "assistant"] } else { &["<|", " to="] };
    let header = expected.iter().any(|start| rest.starts_with(start) || start.starts_with(rest));
    (!header).then(|| text.len() - rest.len())
}

/// Adds text to the last event where it is of the same kind.
fn emit(events: &mut Vec<ReasoningEvent>, event: ReasoningEvent) {
    match (events.last_mut(), event) {
        (_, ReasoningEvent::Content(text) | ReasoningEvent::Reasoning(text)) if text.is_empty() => {}
        (Some(ReasoningEvent::Content(all)), ReasoningEvent::Content(text)) => all.push_str(&text),
        (Some(ReasoningEvent::Reasoning(all)), ReasoningEvent::Reasoning(text)) => all.push_str(&text),
        (_, event) => events.push(event),
    }
}
