//! `Choice`: one answer on its way from tokens to parts: characters put together, thinking and tool calls split out,
//! stop strings found.
//!
//! Stop strings are looked for in the answer alone: thinking and calls are not what a client wants cut short.

use perch_engine::{FinishReason, LogProbs};
use perch_text::{Detokenizer, OutputEvent, OutputParser, StopStrings, Tokenizer};

use super::score::Score;
use super::{Call, Finish, Part};

/// One answer on its way.
pub(crate) struct Choice {
    detokenizer: Detokenizer,
    /// Absent where text goes through as it is.
    parser: Option<OutputParser>,
    /// Special tokens that the parser wants to see.
    shown: Vec<u32>,
    stops: StopStrings,
    scored: bool,
    one_call: bool,
    /// Scores of tokens whose text has not come out yet.
    pending: Vec<Score>,
    /// Tokens of which is not known yet whether they are thinking.
    unplaced: u64,
    calls: usize,
    pub(crate) tokens: u64,
    pub(crate) reasoning_tokens: u64,
    pub(crate) ended: bool,
}

/// How a choice is to be read.
pub(crate) struct Reading {
    pub(crate) detokenizer: Detokenizer,
    pub(crate) parser: Option<OutputParser>,
    pub(crate) shown: Vec<u32>,
    pub(crate) stop: Vec<String>,
    pub(crate) scored: bool,
    pub(crate) one_call: bool,
}

/// Parts that came out, with the scores of their tokens, and how it ended if it did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) parts: Vec<(Part, Vec<Score>)>,
    pub(crate) finish: Option<Finish>,
}

impl Choice {
    pub(crate) fn new(reading: Reading) -> Self {
        Self {
            detokenizer: reading.detokenizer,
            parser: reading.parser,
            shown: reading.shown,
            stops: StopStrings::new(reading.stop),
            scored: reading.scored,
            one_call: reading.one_call,
            pending: Vec::new(),
            unplaced: 0,
            calls: 0,
            tokens: 0,
            reasoning_tokens: 0,
            ended: false,
        }
    }

    /// Takes a token.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, id: u32, logprobs: Option<&LogProbs>) -> Step {
        self.tokens += 1;
        self.unplaced += 1;
        if self.scored {
            self.pending.push(Score::new(tokenizer, id, logprobs));
        }
        let text = self.detokenizer.push(id);
        let mut step = Step::default();
        self.read(&text, &mut step);
        step
    }

    /// Whether its tokens are scored.
    pub(crate) fn is_scored(&self) -> bool {
        self.scored
    }

    /// The engine has ended it. What was held back comes out.
    pub(crate) fn finish(&mut self, reason: FinishReason) -> Step {
        let mut step = Step::default();
        let finish = match reason {
            FinishReason::Length => Finish::Length,
            _ => Finish::Stop { sequence: None },
        };
        let mut text = String::new();
        if let FinishReason::Stop(id) = reason
            && self.shown.contains(&id)
        {
            // The marker that ends a call may be the token that ends the answer.
            text = self.detokenizer.push(id);
        }
        text.push_str(&self.detokenizer.finish());
        self.read(&text, &mut step);
        if let (None, Some(parser)) = (&step.finish, &mut self.parser) {
            let events = parser.finish();
            self.take(events, &mut step);
        }
        if step.finish.is_none() {
            let rest = self.stops.finish();
            self.show(rest, &mut step);
            let called = self.calls > 0 && matches!(finish, Finish::Stop { .. });
            step.finish = Some(if called { Finish::ToolCalls } else { finish });
            self.ended = true;
        }
        step
    }

    fn read(&mut self, text: &str, step: &mut Step) {
        if text.is_empty() {
            return;
        }
        match &mut self.parser {
            Some(parser) => {
                let events = parser.push(text);
                self.take(events, step);
            }
            None => self.take(vec![OutputEvent::Content(text.to_owned())], step),
        }
    }

    fn take(&mut self, events: Vec<OutputEvent>, step: &mut Step) {
        for event in events {
            if step.finish.is_some() {
                return;
            }
            match event {
                OutputEvent::Content(text) => {
                    self.unplaced = 0;
                    let found = self.stops.push(&text);
                    self.show(found.text, step);
                    if let Some(sequence) = found.stopped {
                        self.end(Finish::Stop { sequence: Some(sequence) }, step);
                    }
                }
                OutputEvent::Reasoning(text) => {
                    self.reasoning_tokens += std::mem::take(&mut self.unplaced);
                    // OpenAI's log-probabilities are those of the content.
                    self.pending.clear();
                    step.parts.push((Part::Reasoning(text), Vec::new()));
                }
                OutputEvent::ToolCall(call) => {
                    self.unplaced = 0;
                    self.pending.clear();
                    let call = Call::new(self.calls, call);
                    self.calls += 1;
                    step.parts.push((Part::Call(call), Vec::new()));
                    if self.one_call {
                        self.end(Finish::ToolCalls, step);
                    }
                }
                OutputEvent::ContentWasReasoning => {
                    self.reasoning_tokens = self.tokens;
                    let rest = self.stops.finish();
                    self.show(rest, step);
                    step.parts.push((Part::ContentWasReasoning, Vec::new()));
                }
            }
        }
    }

    fn show(&mut self, text: String, step: &mut Step) {
        if !text.is_empty() {
            step.parts.push((Part::Content(text), std::mem::take(&mut self.pending)));
        }
    }

    fn end(&mut self, finish: Finish, step: &mut Step) {
        self.ended = true;
        step.finish = Some(finish);
    }
}
