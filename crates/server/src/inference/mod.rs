//! Inference in no dialect: a [`Job`] goes in, an [`Answer`] comes out, a stream of [`Delta`]s. Every dialect is a thin
//! adapter over these.

mod answer;
mod calls;
mod choice;
mod constrain;
mod job;
mod prepare;
mod sampling;
mod score;

use perch_text::ToolCall;

pub(crate) use answer::{Answer, Whole, WholeChoice};
pub(crate) use constrain::Grammars;
pub(crate) use job::{AnswerFormat, Calling, ChatInput, Input, Job, SamplingRequest};
pub(crate) use prepare::prompt_tokens;
pub(crate) use sampling::sampling;
pub(crate) use score::Score;

use crate::app::App;
use crate::error::ApiError;
use crate::observe::RequestId;
use answer::Parts;

/// What is new in an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Delta {
    /// A choice goes on.
    Part {
        /// Choice `j` of prompt `i` is `i * n + j`.
        choice: usize,
        part: Part,
        /// Scores of the tokens behind it, if asked for.
        scores: Vec<Score>,
    },
    /// A choice has ended.
    Finished { choice: usize, finish: Finish },
    /// All choices have ended.
    Done(Tally),
}

/// A piece of a choice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Part {
    /// Answer.
    Content(String),
    /// Thinking.
    Reasoning(String),
    /// A whole call of a tool.
    Call(Call),
    /// All content so far was thinking. Too late for a stream; a whole answer puts it right.
    ContentWasReasoning,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    /// Position among the choice's calls.
    pub(crate) index: usize,
    /// Names the call; the tool's answer repeats it.
    pub(crate) id: String,
    /// Which tool.
    pub(crate) name: String,
    /// JSON text of an object.
    pub(crate) arguments: String,
}

/// Why a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it, or this stop string was found.
    Stop { sequence: Option<String> },
    /// `max_tokens` or the end of the context.
    Length,
    /// It calls tools.
    ToolCalls,
}

impl Default for Finish {
    fn default() -> Self {
        Self::Stop { sequence: None }
    }
}

/// Tokens used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) prompt_tokens: u64,
    /// Of these, found in the prefix cache.
    pub(crate) cached_tokens: u64,
    pub(crate) completion_tokens: u64,
    /// Of these, thinking.
    pub(crate) reasoning_tokens: u64,
}

/// Who asks: for the list of recent requests.
pub(crate) struct Asked<'a> {
    pub(crate) id: RequestId,
    pub(crate) route: &'a str,
    /// Which model; `None` is the default.
    pub(crate) model: Option<&'a str>,
}

impl App {
    /// Begins to answer. What can be refused at once is; the rest is told by the answer.
    ///
    /// # Errors
    /// Whatever the pool, the template, the tokenizer or the engine's door says.
    pub(crate) async fn answer(&self, asked: Asked<'_>, job: Job) -> Result<Answer, ApiError> {
        let mut running = self.activity.begin(asked.id.0, asked.route);
        let begun = async {
            let lease = self.pool.lease(asked.model).await?;
            running.answered_by(&lease.id);
            self.begin(lease, job).await
        };
        let begun = tokio::select! {
            begun = begun => begun,
            () = self.abort.cancelled() => Err(ApiError::stopping()),
        };
        match begun {
            Ok(parts) => {
                running.prompt(parts.prompt_tokens as usize);
                Ok(Answer::new(parts, running))
            }
            Err(error) => {
                running.failed(&error);
                Err(error)
            }
        }
    }

    async fn begin(&self, lease: crate::pool::Lease, mut job: Job) -> Result<Parts, ApiError> {
        job.settle(&lease.entry().config);
        let prepared = {
            // More threads than cores would only slow each other, and all the rest, down.
            let turn = self.text_work.clone().acquire_owned().await.map_err(|_| ApiError::stopping())?;
            let (text, defaults) = (lease.text.clone(), lease.defaults());
            let work = tokio::task::spawn_blocking(move || {
                let prepared = prepare::prepare(&text, &defaults, job);
                drop(turn);
                prepared
            });
            work.await.map_err(|_| prepare::failed())??
        };
        let prompt_tokens = prepared.requests.iter().map(|request| request.prompt.len() as u64).sum();
        let requests = prepared.requests.into_iter();
        let generations: Result<Vec<_>, _> = requests.map(|request| lease.engine.generate(request)).collect();
        Ok(Parts {
            generations: generations?,
            lease,
            echoes: prepared.echoes,
            choices: prepared.choices,
            prompt_tokens,
            abort: self.abort.clone(),
        })
    }
}

impl Call {
    fn new(index: usize, call: ToolCall) -> Self {
        Self { index, id: call_id(), name: call.name, arguments: call.arguments }
    }
}

/// Nine letters and digits: the one form that every template takes (Mistral's refuses all others).
fn call_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..9].to_owned()
}
