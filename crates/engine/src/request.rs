//! What goes into the engine and what comes out: `GenerateRequest`, `Event`, and their parts.
//!
//! Token ids in, token ids out: text, templates, stop strings and parsers live on the other side of the channel.

use crate::constraint::ConstraintFactory;

/// One request to generate. Build it with [`GenerateRequest::new`] and set what differs.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// The whole prompt, at least one token.
    pub prompt: Vec<u32>,
    /// At most this many new tokens for each choice; the engine cuts it to what the context leaves (the choice then
    /// ends with [`FinishReason::Length`]). 0 prefills the prompt only: it warms the prefix cache, or scores the prompt.
    pub max_tokens: usize,
    /// How many choices to generate from the one prompt.
    pub n: usize,
    /// How to pick tokens.
    pub sampling: Sampling,
    /// Generation ends after any of these; the token itself is reported in [`Event::Finished`], not as a token.
    pub stop_tokens: Vec<u32>,
    /// Log-probabilities wanted for each generated token: `Some(k)` gives the chosen token's and the `k` best.
    pub logprobs: Option<usize>,
    /// Log-probabilities of the prompt's own tokens (`echo` with `logprobs`), `k` as above.
    pub prompt_logprobs: Option<usize>,
    /// What the answer must look like (a JSON schema, a grammar); each choice gets a constraint of its own.
    pub constraint: Option<ConstraintFactory>,
    /// Part of the prefix-cache key: requests with different salts never share KV.
    pub cache_salt: u64,
}

impl GenerateRequest {
    /// One choice of at most `max_tokens` tokens after `prompt`, with default sampling and nothing else asked for.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            max_tokens,
            n: 1,
            sampling: Sampling::default(),
            stop_tokens: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            constraint: None,
            cache_salt: 0,
        }
    }
}

/// Sampling parameters, applied in this order: bias, penalties, constraint, temperature, top-k, top-p, min-p, draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0 (and anything below 0.00001) is greedy: arg max, lowest id on ties.
    pub temperature: f32,
    /// Keep the k most likely; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set whose probability reaches this; 1.0 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this times the most likely; 0.0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt and output (CTRL); 1.0 is off.
    pub repetition_penalty: f32,
    /// Subtracted once from every token already generated (OpenAI); 0.0 is off.
    pub presence_penalty: f32,
    /// Subtracted for each time a token was generated (OpenAI); 0.0 is off.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Same seed, same text, whatever runs beside it. `None` draws one. Choice `i` of `n` uses `seed + i`.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// Natural-log probability of a token under the model (before temperature and truncation).
#[derive(Debug, Clone, PartialEq)]
pub struct LogProbs {
    /// The token's own.
    pub chosen: f32,
    /// The most likely tokens, best first.
    pub top: Vec<(u32, f32)>,
}

/// What a generation sends back. Every stream ends with one `Finished` per choice, or one `Failed`: the engine thread
/// sends nothing after it, and never ends a stream without it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The prompt has been prefilled; comes before the first token.
    Prefilled {
        /// Prompt tokens whose KV came from the prefix cache; less than the prompt's length.
        cached_tokens: usize,
        /// Log-probabilities of prompt tokens 1.., if asked for.
        prompt_logprobs: Vec<LogProbs>,
    },
    /// A new token.
    Token {
        /// Which of the `n` choices.
        choice: usize,
        /// The token.
        id: u32,
        /// Its log-probabilities, if asked for.
        logprobs: Option<LogProbs>,
    },
    /// A choice has ended.
    Finished {
        /// Which of the `n` choices.
        choice: usize,
        /// Why.
        reason: FinishReason,
        /// Tokens generated for it, a stop token included.
        generated: usize,
    },
    /// The whole request has failed; nothing follows.
    Failed(EngineError),
}

/// Why a choice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop token, which one.
    Stop(u32),
    /// `max_tokens` or the context's end.
    Length,
    /// The request's constraint is complete: nothing may follow.
    Complete,
}

/// Why the engine refused or gave up a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The queue is full.
    #[error("the queue is full: {waiting} requests are waiting; try again in {retry_after_s} s")]
    QueueFull {
        /// Requests waiting now.
        waiting: usize,
        /// A guess from the present rate, in seconds, at least 1.
        retry_after_s: u64,
    },
    /// Prompt (and at least one new token) do not fit the context.
    #[error("the prompt has {prompt} tokens, but this model's context holds {context}")]
    ContextLength {
        /// Tokens in the prompt.
        prompt: usize,
        /// The context's length.
        context: usize,
    },
    /// Prompt and one new token do not fit the KV budget even alone.
    #[error("the prompt needs {needed} bytes of KV cache, but the budget is {budget}")]
    KvBudget {
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
    },
    /// A parameter was out of range (token id outside the vocabulary, empty prompt); the message names it.
    #[error("{0}")]
    Invalid(String),
    /// The engine failed while this request ran, and is restarting.
    #[error("the model's engine failed and is restarting: {0}")]
    Restarting(String),
    /// The engine failed too often in a row and was given up; only loading the model again helps.
    #[error("the model's engine has failed: {0}")]
    Failed(String),
    /// The backend failed on this request.
    #[error("{0}")]
    Backend(String),
    /// The engine has been shut down.
    #[error("the model has been unloaded")]
    Closed,
}
