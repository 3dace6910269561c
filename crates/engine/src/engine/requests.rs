//! What the engine keeps of each request and each of its choices, beside what the scheduler keeps.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use crate::sampler::Sampler;
use crate::shared::QueueSlot;
use crate::{
    Constraint, ConstraintFactory, Draw, EngineError, Event, FinishReason, GenerateRequest, LogProbs,
    Sampling, SeqId,
};

/// A request on its way into the engine: validated, with the channel back and its place in the queue.
pub(crate) struct Submission {
    pub(crate) request: GenerateRequest,
    pub(crate) events: UnboundedSender<Event>,
    pub(crate) slot: Option<QueueSlot>,
}

/// A request that has not ended.
pub(crate) struct Request {
    events: UnboundedSender<Event>,
    /// Its place in the queue, until it begins.
    pub(crate) slot: Option<QueueSlot>,
    pub(crate) arrival: u64,
    pub(crate) prompt_len: usize,
    /// Most tokens for each choice, the context considered.
    pub(crate) max_tokens: usize,
    pub(crate) n: usize,
    stop_tokens: Vec<u32>,
    pub(crate) logprobs: Option<usize>,
    pub(crate) prompt_logprobs: Option<usize>,
    constraint: Option<ConstraintFactory>,
    sampling: Arc<Sampling>,
    seed: u64,
    penalised_prompt: Arc<HashSet<u32>>,
    /// Prompt tokens that came from the cache when it first began.
    pub(crate) cached_tokens: Option<usize>,
    /// Log-probabilities of prompt tokens so far.
    pub(crate) scores: Vec<LogProbs>,
    pub(crate) prefilled: bool,
    /// Its choices that have not finished.
    pub(crate) live: Vec<SeqId>,
}

impl Request {
    /// The state of a new request, and its prompt.
    pub(crate) fn new(submission: Submission, arrival: u64, context_length: usize) -> (Self, Vec<u32>) {
        let Submission { request, events, slot } = submission;
        let penalised_prompt = Sampler::penalised_prompt(&request.sampling, &request.prompt);
        let prompt_len = request.prompt.len();
        let state = Self {
            events,
            slot,
            arrival,
            prompt_len,
            max_tokens: request.max_tokens.min(context_length.saturating_sub(prompt_len)),
            n: request.n,
            stop_tokens: request.stop_tokens,
            logprobs: request.logprobs,
            prompt_logprobs: request.prompt_logprobs,
            constraint: request.constraint,
            seed: request.sampling.seed.unwrap_or_else(rand::random),
            sampling: Arc::new(request.sampling),
            penalised_prompt,
            cached_tokens: None,
            scores: Vec::new(),
            prefilled: false,
            live: Vec::new(),
        };
        (state, request.prompt)
    }

    /// The state of its choice `index` before the first token.
    pub(crate) fn choice(&self, index: usize) -> Result<Choice, EngineError> {
        let sampler = Sampler::new(self.sampling.clone(), self.penalised_prompt.clone(), self.seed, index);
        let constraint = self.constraint.as_ref().map(|f| guarded(|| f.build())).transpose()?;
        Ok(Choice { arrival: self.arrival, index, sampler, constraint, generated: 0 })
    }

    /// Tokens whose KV a choice may need: all but the last one generated.
    pub(crate) fn max_len(&self) -> usize {
        self.prompt_len + self.max_tokens.saturating_sub(1)
    }

    /// Sends an event; one that nobody reads any more is dropped, and the request with it at the next step.
    pub(crate) fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Whether nobody reads its events any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// How a backend may draw the next token of a choice by itself; `None` where the engine needs the logits.
    pub(crate) fn draw(&self, choice: &Choice) -> Option<Draw> {
        let forks = !self.prefilled && (self.n > 1 || self.max_tokens == 0);
        if forks || choice.constraint.is_some() || self.logprobs.is_some() {
            return None;
        }
        choice.sampler.as_draw(choice.generated + 1 >= self.max_tokens)
    }

    /// Whether `token` ends a choice without being part of it.
    pub(crate) fn stops_at(&self, token: u32) -> bool {
        self.stop_tokens.contains(&token)
    }

    /// Why a choice ends with `token`, its `generated`-th, if it does.
    pub(crate) fn ending(&self, choice: &Choice, token: u32) -> Option<FinishReason> {
        if self.stops_at(token) {
            Some(FinishReason::Stop(token))
        } else if choice.constraint.as_ref().is_some_and(|c| c.finished()) {
            Some(FinishReason::Complete)
        } else {
            (choice.generated >= self.max_tokens).then_some(FinishReason::Length)
        }
    }
}

/// One choice of a request: what decides on its tokens. It outlives preemption.
pub(crate) struct Choice {
    /// Its request.
    pub(crate) arrival: u64,
    /// Which of the request's choices.
    pub(crate) index: usize,
    pub(crate) sampler: Sampler,
    pub(crate) constraint: Option<Box<dyn Constraint>>,
    pub(crate) generated: usize,
}

/// Calls into a constraint, whose panic is its own request's error and nobody else's.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, String>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err("the constraint panicked".to_owned()))
        .map_err(EngineError::Invalid)
}
