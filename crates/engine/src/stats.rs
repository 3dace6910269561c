//! `EngineState` and `EngineStats`: what an engine says of itself.

use std::time::Duration;

/// What an engine is doing. `watch` announces every change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// The backend is being built for the first time.
    Loading,
    /// Loaded, nothing to do.
    Idle,
    /// Working on requests.
    Active,
    /// The backend failed and is being built again; requests are queued meanwhile.
    Restarting {
        /// What failed.
        message: String,
        /// Failures in a row, this one included.
        failures: u32,
    },
    /// Given up after too many failures; every call answers at once with this message.
    Failed {
        /// The last failure.
        message: String,
    },
    /// Shut down.
    Closed,
}

/// A snapshot of an engine, at most one step old.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineStats {
    /// What it is doing.
    pub state: EngineState,
    /// Sequences with KV: prefilling or decoding.
    pub running: usize,
    /// Requests that have not begun.
    pub waiting: usize,
    /// Begun sequences that wait for memory: preempted ones, and choices that could not be forked at once.
    pub preempted: usize,
    /// Bytes of KV held by sequences and the prefix cache together.
    pub kv_used_bytes: u64,
    /// Bytes of KV allowed.
    pub kv_budget_bytes: u64,
    /// Bytes of KV held by the prefix cache; where the backend shares blocks, running sequences use them too.
    pub prefix_cache_bytes: u64,
    /// Blocks in the prefix cache.
    pub prefix_cache_blocks: usize,
    /// Prompt tokens looked up in the prefix cache, all in all.
    pub prefix_lookup_tokens: u64,
    /// Of those, tokens that were found.
    pub prefix_hit_tokens: u64,
    /// Requests taken in.
    pub requests: u64,
    /// Requests ended with all choices finished.
    pub finished: u64,
    /// Requests whose client went away before that.
    pub cancelled: u64,
    /// Requests ended with an error.
    pub failed: u64,
    /// Tokens of finished prefills, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Prompt tokens computed per second, over recent steps that prefilled; 0 when there were none.
    pub prefill_tokens_per_s: f64,
    /// Tokens generated per second by all sequences together, over recent steps that decoded; 0 when there were none.
    pub decode_tokens_per_s: f64,
    /// Steps run.
    pub steps: u64,
    /// How long the step in progress has been running; `None` between steps. A value that only grows is a hung backend.
    pub step_age: Option<Duration>,
    /// Times a running sequence gave up its KV for an older one.
    pub preemptions: u64,
    /// Times the backend was built again.
    pub restarts: u64,
}

impl EngineStats {
    /// The snapshot of an engine that has done nothing yet.
    pub(crate) fn new(kv_budget_bytes: u64) -> Self {
        Self {
            state: EngineState::Loading,
            running: 0,
            waiting: 0,
            preempted: 0,
            kv_used_bytes: 0,
            kv_budget_bytes,
            prefix_cache_bytes: 0,
            prefix_cache_blocks: 0,
            prefix_lookup_tokens: 0,
            prefix_hit_tokens: 0,
            requests: 0,
            finished: 0,
            cancelled: 0,
            failed: 0,
            prompt_tokens: 0,
            generated_tokens: 0,
            prefill_tokens_per_s: 0.0,
            decode_tokens_per_s: 0.0,
            steps: 0,
            step_age: None,
            preemptions: 0,
            restarts: 0,
        }
    }
}
