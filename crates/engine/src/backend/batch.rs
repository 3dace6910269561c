//! `Batch`: the new tokens of all runs of a step, flattened and checked.
//!
//! Invariants: every token is in the vocabulary; a run begins where its sequence's KV ends and ends within the context;
//! no sequence has two runs; `wanted` is ascending.

use std::collections::HashSet;

use super::kv::KvOps;
use super::{BackendError, Run, SeqId, Wanted};

/// One run in the flattened batch.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Whose tokens.
    pub seq: SeqId,
    /// Row of the first.
    pub start: usize,
    /// How many.
    pub len: usize,
    /// Position of the first in its sequence.
    pub position: usize,
}

/// A checked step.
#[derive(Debug)]
pub struct Batch {
    /// All tokens, run after run.
    pub tokens: Vec<u32>,
    /// The runs.
    pub spans: Vec<Span>,
    /// Rows whose logits are wanted.
    pub wanted: Vec<u32>,
}

/// What a batch is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Sequences are no longer than this.
    pub context_length: usize,
}

impl Batch {
    /// Flattens `runs`; an error names what is wrong with them.
    pub fn new(runs: &[Run<'_>], bounds: Bounds, kv: &dyn KvOps) -> Result<Self, BackendError> {
        let total = runs.iter().map(|run| run.tokens.len()).sum();
        if u32::try_from(total).is_err() {
            return Err(BackendError::Invalid(format!("a batch of {total} tokens is too large")));
        }
        let mut batch = Self { tokens: Vec::with_capacity(total), spans: Vec::new(), wanted: Vec::new() };
        let mut seen = HashSet::with_capacity(runs.len());
        for run in runs {
            check(run, bounds, kv.len_of(run.seq)?)?;
            if !seen.insert(run.seq) {
                return Err(BackendError::Invalid(format!("sequence {} has two runs in a batch", run.seq.0)));
            }
            let (start, len) = (batch.tokens.len(), run.tokens.len());
            batch.tokens.extend_from_slice(run.tokens);
            batch.spans.push(Span { seq: run.seq, start, len, position: run.position });
            let first = match run.wanted {
                Wanted::None => start + len,
                Wanted::Last => start + len - 1,
                Wanted::All => start,
            };
            batch.wanted.extend((first..start + len).map(|row| row as u32));
        }
        Ok(batch)
    }

    /// The position of every token.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().flat_map(|span| span.position..span.position + span.len)
    }
}

fn check(run: &Run<'_>, bounds: Bounds, has: usize) -> Result<(), BackendError> {
    let Bounds { vocab_size, context_length } = bounds;
    let seq = run.seq.0;
    let message = if run.tokens.is_empty() {
        format!("sequence {seq} has a run without tokens")
    } else if run.position != has {
        format!("sequence {seq} has {has} tokens, but its run begins at position {}", run.position)
    } else if run.tokens.len() > context_length.saturating_sub(has) {
        let end = has + run.tokens.len();
        format!("sequence {seq} would have {end} tokens, but the context holds {context_length}")
    } else if let Some(token) = run.tokens.iter().find(|token| **token as usize >= vocab_size) {
        format!("token id {token} is outside the vocabulary of {vocab_size}")
    } else {
        return Ok(());
    };
    Err(BackendError::Invalid(message))
}
