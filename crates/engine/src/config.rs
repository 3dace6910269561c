//! `EngineConfig`: the sizes an engine works within.

use std::time::Duration;

/// Sizes an engine works within. All have sensible defaults; `kv_budget_bytes` should come from the machine's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Requests that may wait for their turn; one more is refused with [`crate::EngineError::QueueFull`].
    pub queue_limit: usize,
    /// Sequences that may run at once (each of a request's `n` choices is one).
    pub max_sequences: usize,
    /// Tokens of one step: one for each running stream first, chunks of prompts with the rest.
    pub max_batch_tokens: usize,
    /// While streams run, chunks of prompts are cut so that a step takes about this long: the longest gap between a
    /// stream's tokens that a prefill beside it should cause.
    pub step_target: Duration,
    /// Bytes of KV that sequences and the prefix cache may hold together.
    pub kv_budget_bytes: u64,
    /// Bytes of KV, within the budget, that the prefix cache may hold. 0 turns it off.
    pub prefix_cache_bytes: u64,
    /// Longest sequence in tokens, where the model's own context is to be cut.
    pub context_length: Option<usize>,
    /// Failures in a row, with no request finished in between, after which the engine is given up.
    pub max_failures: u32,
    /// Pause before the first restart; doubles with each failure in a row, up to 30 s.
    pub restart_backoff: Duration,
    /// Idle time after which the backend is asked to return unused memory.
    pub trim_after: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            queue_limit: 256,
            max_sequences: 32,
            max_batch_tokens: 512,
            step_target: Duration::from_millis(200),
            kv_budget_bytes: 4 << 30,
            prefix_cache_bytes: 2 << 30,
            context_length: None,
            max_failures: 5,
            restart_backoff: Duration::from_millis(250),
            trim_after: Duration::from_secs(2),
        }
    }
}
