//! The `Backend` trait: what runs a model. The engine schedules, a backend computes.
//!
//! A backend is built, used and dropped on one thread (the engine thread of its model) and need not be `Send`.
//! It keeps the KV of *sequences* (growing, one per running generation) and of *blocks* (immutable, `block_tokens`
//! long, kept for the prefix cache). Whether a block shares memory with the sequences that use it or is a copy is the
//! backend's affair; [`Limits::shares_blocks`] tells the ledger which. [`batch`] and [`kv`] hold what all backends check and
//! write down alike.
//!
//! Contract, tested by the engine's property tests on every backend:
//! - a run's logits depend on the tokens of its sequence alone, not on what else is in the batch, on how its prompt was
//!   cut into chunks, or on whether its prefix came from saved blocks (bit for bit on the CPU backend);
//! - an error leaves every sequence as it was before the call, or the backend says so by [`BackendError::Fatal`];
//! - memory stays within what the engine's ledger expects: see [`Limits::shares_blocks`].

pub mod batch;
mod draw;
pub mod kv;

pub use draw::Draw;
use thiserror::Error;

/// Names a sequence within one backend. Chosen by the engine, never used twice at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u32);

/// Names a saved block of KV within one backend. Chosen by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u64);

/// What a loaded model can do and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Length of a row of logits.
    pub vocab_size: usize,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Tokens in a saved block.
    pub block_tokens: usize,
    /// Bytes of KV for one token, all layers.
    pub kv_bytes_per_token: usize,
    /// Whether saved blocks share memory with the sequences they were saved from or opened with. `true`: `open` and
    /// `save` take no memory, and a fork takes none for what lies in saved blocks. `false`: each is a copy.
    pub shares_blocks: bool,
}

/// Which positions of a run want logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: a chunk in the middle of a prompt.
    None,
    /// The last token only.
    Last,
    /// Every token (prompt log-probabilities).
    All,
}

/// New tokens of one sequence in a ragged batch.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Whose tokens.
    pub seq: SeqId,
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Position of the first: the number of tokens the sequence's KV holds already.
    pub position: usize,
    /// Which logits to return.
    pub wanted: Wanted,
}

/// Why a backend could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// No memory for more KV. Nothing changed; the engine may preempt and try again.
    #[error("out of memory for the KV cache: {0}")]
    OutOfMemory(String),
    /// The request was not valid for this backend (a token id outside the vocabulary, an unknown sequence).
    #[error("{0}")]
    Invalid(String),
    /// The backend cannot go on; the engine restarts it.
    #[error("{0}")]
    Fatal(String),
}

/// Runs one model.
pub trait Backend {
    /// Sizes and limits; constant for the backend's life.
    fn limits(&self) -> Limits;

    /// Begins sequence `seq` with the KV of `prefix`: saved blocks, in order, from position 0.
    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError>;

    /// Begins `to` with all the KV of `from`.
    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError>;

    /// Forgets everything of `seq` from position `len` on.
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError>;

    /// Ends `seq` and frees its KV, except what saved blocks still hold. Unknown ids are ignored.
    fn close(&mut self, seq: SeqId);

    /// Keeps positions `index * block_tokens .. (index + 1) * block_tokens` of `seq`, all present, as `block`.
    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError>;

    /// Forgets a saved block. Sequences opened with it keep their KV. Unknown ids are ignored.
    fn forget(&mut self, block: BlockId);

    /// Runs the new tokens of every run in one pass and appends their KV. Returns the wanted rows of logits, `f32`,
    /// `[rows, vocab_size]` flattened, in the order of the runs and of their tokens.
    fn forward(&mut self, batch: &[Run<'_>]) -> Result<Vec<f32>, BackendError>;

    /// Whether [`Backend::forward_drawn`] works: logits need not leave the device to become tokens.
    fn draws(&self) -> bool {
        false
    }

    /// As [`Backend::forward`], and draws the token after each run that wants its last row: `draws` in the order of those
    /// runs; no run wants all. `None` stands for a row without a finite logit.
    ///
    /// The backend may go ahead: where each draw says what comes [`Draw::then`], it may begin the pass that runs the drawn
    /// tokens before this one is read. What it has computed ahead is not yet part of a sequence, and is dropped in silence
    /// where the engine goes another way.
    fn forward_drawn(&mut self, batch: &[Run<'_>], draws: &[Draw]) -> Result<Vec<Option<u32>>, BackendError> {
        let _ = (batch, draws);
        Err(BackendError::Invalid("this backend does not draw".to_owned()))
    }

    /// Returns unused memory to the system; called when the engine has been idle for a moment.
    fn trim(&mut self) {}
}
