//! Deltas to `text_completion`s, in pieces and whole.

use std::collections::BTreeMap;

use perch_protocol::openai::{CompletionChoice, CompletionLogProbs, CompletionResponse, FinishReason, Usage};

use super::shared::{Encode, fingerprint, finish_reason, usage};
use crate::clock::now_seconds;
use crate::inference::{Delta, Part, Score, Whole};

/// What all pieces of an answer repeat.
#[derive(Debug, Clone)]
pub(super) struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    pub(super) fn new(request_id: &str, model: &str) -> Self {
        Self { id: format!("cmpl-{request_id}"), created: now_seconds(), model: model.to_owned() }
    }

    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Option<Usage>>) -> CompletionResponse {
        CompletionResponse {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
            system_fingerprint: fingerprint(),
        }
    }
}

/// Makes pieces.
pub(super) struct TextEncoder {
    head: Head,
    /// Characters of each choice so far.
    offsets: Vec<usize>,
    with_usage: bool,
    scored: bool,
}

impl TextEncoder {
    pub(super) fn new(head: Head, choices: usize, with_usage: bool, scored: bool) -> Self {
        Self { head, offsets: vec![0; choices], with_usage, scored }
    }

    fn one(
        &mut self,
        index: usize,
        text: String,
        scores: Vec<Score>,
        finish_reason: Option<FinishReason>,
    ) -> CompletionResponse {
        let logprobs =
            (self.scored && !scores.is_empty()).then(|| logprobs(scores, &mut self.offsets[index]));
        let choice = CompletionChoice { index, text, logprobs, finish_reason };
        self.head.response(vec![choice], self.with_usage.then_some(None))
    }
}

impl Encode for TextEncoder {
    type Chunk = CompletionResponse;

    fn encode(&mut self, delta: Delta) -> Vec<CompletionResponse> {
        match delta {
            Delta::Part { choice, part: Part::Content(text), scores } => {
                vec![self.one(choice, text, scores, None)]
            }
            // Text that goes through as it is has no other parts.
            Delta::Part { .. } => Vec::new(),
            Delta::Finished { choice, finish } => {
                vec![self.one(choice, String::new(), Vec::new(), Some(finish_reason(&finish)))]
            }
            Delta::Done(tally) if self.with_usage => {
                vec![self.head.response(Vec::new(), Some(Some(usage(tally))))]
            }
            Delta::Done(_) => Vec::new(),
        }
    }
}

/// A whole answer.
pub(super) fn whole(head: Head, answer: Whole, scored: bool) -> CompletionResponse {
    let choices = answer.choices.into_iter().enumerate().map(|(index, choice)| CompletionChoice {
        index,
        logprobs: scored.then(|| logprobs(choice.scores, &mut 0)),
        text: choice.content,
        finish_reason: Some(finish_reason(&choice.finish)),
    });
    head.response(choices.collect(), Some(Some(usage(answer.tally))))
}

/// Scores as OpenAI's four arrays. `offset` is where the first token begins, and moves behind the last.
fn logprobs(scores: Vec<Score>, offset: &mut usize) -> CompletionLogProbs {
    let mut arrays = CompletionLogProbs::default();
    for score in scores {
        // The chosen token is among them, as OpenAI has it. Several tokens may have one text (bytes that are no
        // characters); the likeliest comes first and stays.
        let top = score.logprob.map(|chosen| {
            let mut top = BTreeMap::new();
            for (token, logprob) in score.top.into_iter().chain([(score.token.clone(), chosen)]) {
                top.entry(token.text).or_insert(logprob);
            }
            top
        });
        arrays.text_offset.push(*offset);
        *offset += score.token.text.chars().count();
        arrays.tokens.push(score.token.text);
        arrays.token_logprobs.push(score.logprob);
        arrays.top_logprobs.push(top);
    }
    arrays
}
