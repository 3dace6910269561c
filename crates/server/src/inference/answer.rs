//! `Answer`: a request that is being answered, as a stream of [`Delta`]s; and `Whole`, all of them together.
//!
//! Invariants: deltas of one choice are in order and end with one `Finished`; the last of all is `Done`, or an error, after
//! which nothing follows. Dropping an answer cancels its sequences and gives the model's lease back.

use std::collections::VecDeque;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use perch_engine::{Event, Generation, LogProbs};
use perch_protocol::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::choice::{Choice, Step};
use super::score::Score;
use super::{Delta, Finish, Part, Tally};
use crate::activity::Running;
use crate::error::ApiError;
use crate::pool::Lease;

/// A prompt that is to be repeated before its answers.
pub(crate) struct Echo {
    pub(crate) text: String,
    pub(crate) tokens: Vec<u32>,
}

/// What an answer is made of.
pub(crate) struct Parts {
    pub(crate) lease: Lease,
    /// One for each prompt.
    pub(crate) generations: Vec<Generation>,
    /// One for each prompt, if prompts are repeated.
    pub(crate) echoes: Vec<Echo>,
    /// `n` for each prompt.
    pub(crate) choices: Vec<Choice>,
    pub(crate) prompt_tokens: u64,
    pub(crate) abort: CancellationToken,
}

/// A request that is being answered.
pub(crate) struct Answer {
    lease: Lease,
    events: SelectAll<BoxStream<'static, (usize, Event)>>,
    echoes: Vec<Echo>,
    choices: Vec<Choice>,
    n: usize,
    open: usize,
    queue: VecDeque<Delta>,
    tally: Tally,
    /// `None` once the answer has ended.
    running: Option<Running>,
    abort: CancellationToken,
}

impl Answer {
    pub(crate) fn new(parts: Parts, running: Running) -> Self {
        let n = parts.choices.len() / parts.generations.len().max(1);
        let tagged = parts.generations.into_iter().enumerate();
        let events = tagged.map(|(i, generation)| generation.map(move |event| (i, event)).boxed());
        Self {
            lease: parts.lease,
            events: events.collect(),
            echoes: parts.echoes,
            n,
            open: parts.choices.len(),
            choices: parts.choices,
            queue: VecDeque::new(),
            tally: Tally { prompt_tokens: parts.prompt_tokens, ..Tally::default() },
            running: Some(running),
            abort: parts.abort,
        }
    }

    /// The model that answers.
    pub(crate) fn model(&self) -> &str {
        &self.lease.id
    }

    /// How many choices there are.
    pub(crate) fn choices(&self) -> usize {
        self.choices.len()
    }

    /// What comes next; `None` after the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Delta, ApiError>> {
        loop {
            if let Some(delta) = self.queue.pop_front() {
                return Some(Ok(delta));
            }
            self.running.as_ref()?;
            if self.open == 0 {
                self.events.clear();
                self.running.take()?.completed(self.tally.completion_tokens);
                return Some(Ok(Delta::Done(self.tally)));
            }
            let event = tokio::select! {
                event = self.events.next() => event,
                () = self.abort.cancelled() => return self.fail(ApiError::stopping()),
            };
            match event {
                Some((_, Event::Failed(error))) => return self.fail(error.into()),
                Some((prompt, event)) => self.take(prompt, event),
                None => {
                    let message = "the engine ended without an answer";
                    return self.fail(ApiError::new(ErrorCode::EngineError, message));
                }
            }
        }
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Whole, ApiError> {
        let mut whole =
            Whole { choices: Vec::new(), tally: Tally::default(), model: self.model().to_owned() };
        whole.choices.resize_with(self.choices(), WholeChoice::default);
        while let Some(delta) = self.next().await {
            match delta? {
                Delta::Part { choice, part, scores } => whole.choices[choice].add(part, scores),
                Delta::Finished { choice, finish } => whole.choices[choice].finish = finish,
                Delta::Done(tally) => whole.tally = tally,
            }
        }
        Ok(whole)
    }

    fn fail(&mut self, error: ApiError) -> Option<Result<Delta, ApiError>> {
        self.events.clear();
        self.running.take()?.failed(&error);
        Some(Err(error))
    }

    fn take(&mut self, prompt: usize, event: Event) {
        match event {
            Event::Prefilled { cached_tokens, prompt_logprobs } => {
                self.tally.cached_tokens += cached_tokens as u64;
                if let Some(running) = &mut self.running {
                    running.cached(cached_tokens);
                }
                self.echo(prompt, &prompt_logprobs);
            }
            Event::Token { choice, id, logprobs } => {
                let index = prompt * self.n + choice;
                if self.choices[index].ended {
                    return;
                }
                if let Some(running) = &mut self.running {
                    running.token();
                }
                let step = self.choices[index].push(&self.lease.text.tokenizer, id, logprobs.as_ref());
                let tokens = self.choices[index].tokens;
                self.pass_on(index, step, tokens);
            }
            Event::Finished { choice, reason, generated } => {
                let index = prompt * self.n + choice;
                if self.choices[index].ended {
                    return;
                }
                let step = self.choices[index].finish(reason);
                self.pass_on(index, step, generated as u64);
            }
            Event::Failed(_) => {}
        }
    }

    fn pass_on(&mut self, index: usize, step: Step, generated: u64) {
        let parts = step.parts.into_iter();
        self.queue.extend(parts.map(|(part, scores)| Delta::Part { choice: index, part, scores }));
        if let Some(finish) = step.finish {
            self.queue.push_back(Delta::Finished { choice: index, finish });
            self.open -= 1;
            self.tally.completion_tokens += generated;
            self.tally.reasoning_tokens += self.choices[index].reasoning_tokens;
        }
    }

    /// Repeats the prompt before each of its choices. `logprobs` are those of its tokens from the second on.
    fn echo(&mut self, prompt: usize, logprobs: &[LogProbs]) {
        let Some(Echo { text, tokens }) = self.echoes.get(prompt) else { return };
        let tokenizer = &self.lease.text.tokenizer;
        let scored = !logprobs.is_empty() || self.choices[prompt * self.n].is_scored();
        let known = std::iter::once(None).chain(logprobs.iter().map(Some));
        let scores: Vec<Score> = match scored {
            true => tokens.iter().zip(known).map(|(id, known)| Score::new(tokenizer, *id, known)).collect(),
            false => Vec::new(),
        };
        for choice in prompt * self.n..(prompt + 1) * self.n {
            let part = Part::Content(text.clone());
            self.queue.push_back(Delta::Part { choice, part, scores: scores.clone() });
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) model: String,
    pub(crate) choices: Vec<WholeChoice>,
    pub(crate) tally: Tally,
}

/// One choice of it.
#[derive(Debug, Default)]
pub(crate) struct WholeChoice {
    pub(crate) content: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<super::Call>,
    pub(crate) scores: Vec<Score>,
    pub(crate) finish: Finish,
}

impl WholeChoice {
    fn add(&mut self, part: Part, scores: Vec<Score>) {
        match part {
            Part::Content(text) => {
                self.content.push_str(&text);
                self.scores.extend(scores);
            }
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::Call(call) => self.calls.push(call),
            Part::ContentWasReasoning => {
                self.reasoning.push_str(&std::mem::take(&mut self.content));
                self.scores.clear();
            }
        }
    }
}
