//! `KvCache`: the keys and values that a model keeps, by sequence and by saved block.
//!
//! Holds the bookkeeping of ids, once for every way to store KV: pages that sequences and blocks share, or whole tensors
//! for each sequence.
//!
//! Invariants: every id maps to one sequence (or block); an operation that fails has changed nothing; a sequence's
//! length grows only by [`KvOps::commit`], after a pass has written all its layers.

use std::collections::HashMap;

use super::{BackendError, BlockId, Run, SeqId};

/// How the KV of one sequence is stored.
pub trait SequenceKv: Sized {
    /// What sequences of one model have in common: sizes, and where memory comes from.
    type Context;
    /// A saved block.
    type Block;

    /// An empty sequence, or one that begins with the tokens of `prefix`.
    fn open(context: &Self::Context, prefix: &[&Self::Block]) -> Result<Self, BackendError>;
    /// A second sequence with the same KV.
    fn fork(&self, context: &Self::Context) -> Result<Self, BackendError>;
    /// Tokens whose KV is complete.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Sets the length. What lies beyond is forgotten.
    fn set_len(&mut self, len: usize);
    /// Makes room for `extra` more tokens, to be written by the pass that follows.
    fn reserve(&mut self, context: &Self::Context, extra: usize) -> Result<(), BackendError>;
    /// Keeps block number `index`; the caller has checked that the sequence has all its tokens.
    fn save(&self, context: &Self::Context, index: usize) -> Result<Self::Block, BackendError>;
    /// Returns memory that nobody uses to the system.
    fn trim(context: &Self::Context);
}

/// The KV of all sequences and saved blocks of one model.
pub struct KvCache<S: SequenceKv> {
    context: S::Context,
    block_tokens: usize,
    sequences: HashMap<SeqId, S>,
    blocks: HashMap<BlockId, S::Block>,
}

impl<S: SequenceKv> KvCache<S> {
    /// An empty cache whose saved blocks have `block_tokens` tokens.
    pub fn new(context: S::Context, block_tokens: usize) -> Self {
        Self { context, block_tokens, sequences: HashMap::new(), blocks: HashMap::new() }
    }

    /// The sequence `seq`.
    pub fn get(&self, seq: SeqId) -> Result<&S, BackendError> {
        self.sequences.get(&seq).ok_or_else(|| unknown(seq))
    }

    /// The sequence `seq`, to be written by a pass.
    pub fn get_mut(&mut self, seq: SeqId) -> Result<&mut S, BackendError> {
        self.sequences.get_mut(&seq).ok_or_else(|| unknown(seq))
    }

    /// What all sequences share.
    pub fn context(&self) -> &S::Context {
        &self.context
    }
}

/// The operations of [`super::Backend`] on KV, whatever the storage.
pub trait KvOps {
    /// Tokens of `seq`.
    fn len_of(&self, seq: SeqId) -> Result<usize, BackendError>;
    /// See [`super::Backend::open`].
    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError>;
    /// See [`super::Backend::fork`].
    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError>;
    /// See [`super::Backend::truncate`].
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError>;
    /// See [`super::Backend::close`].
    fn close(&mut self, seq: SeqId);
    /// See [`super::Backend::save`].
    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError>;
    /// See [`super::Backend::forget`].
    fn forget(&mut self, block: BlockId);
    /// See [`super::Backend::trim`].
    fn trim(&mut self);
    /// Makes room for the new tokens of every run, or for none of them.
    fn reserve(&mut self, batch: &[Run<'_>]) -> Result<(), BackendError>;
    /// Gives back what [`KvOps::reserve`] made room for: the pass did not end.
    fn roll_back(&mut self, batch: &[Run<'_>]);
    /// Counts the new tokens in: the pass has written them.
    fn commit(&mut self, batch: &[Run<'_>]);
}

impl<S: SequenceKv> KvOps for KvCache<S> {
    fn len_of(&self, seq: SeqId) -> Result<usize, BackendError> {
        self.get(seq).map(S::len)
    }

    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError> {
        self.must_be_new(seq)?;
        let find =
            |id| self.blocks.get(id).ok_or_else(|| invalid(format!("there is no saved block {}", id.0)));
        let blocks = prefix.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let sequence = S::open(&self.context, &blocks)?;
        self.sequences.insert(seq, sequence);
        Ok(())
    }

    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError> {
        self.must_be_new(to)?;
        let sequence = self.get(from)?.fork(&self.context)?;
        self.sequences.insert(to, sequence);
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError> {
        let sequence = self.get_mut(seq)?;
        if len > sequence.len() {
            let has = sequence.len();
            return Err(invalid(format!("sequence {} has {has} tokens and cannot be cut to {len}", seq.0)));
        }
        sequence.set_len(len);
        Ok(())
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }

    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError> {
        if self.blocks.contains_key(&block) {
            return Err(invalid(format!("block {} is already saved", block.0)));
        }
        let sequence = self.get(seq)?;
        let end = index.checked_add(1).and_then(|n| n.checked_mul(self.block_tokens));
        if end.is_none_or(|end| end > sequence.len()) {
            let has = sequence.len();
            return Err(invalid(format!("sequence {} has {has} tokens and no whole block {index}", seq.0)));
        }
        let saved = sequence.save(&self.context, index)?;
        self.blocks.insert(block, saved);
        Ok(())
    }

    fn forget(&mut self, block: BlockId) {
        self.blocks.remove(&block);
    }

    fn trim(&mut self) {
        self.sequences.shrink_to_fit();
        self.blocks.shrink_to_fit();
        S::trim(&self.context);
    }

    fn reserve(&mut self, batch: &[Run<'_>]) -> Result<(), BackendError> {
        for (i, run) in batch.iter().enumerate() {
            let sequence = self.sequences.get_mut(&run.seq).ok_or_else(|| unknown(run.seq))?;
            if let Err(error) = sequence.reserve(&self.context, run.tokens.len()) {
                self.roll_back(&batch[..=i]);
                return Err(error);
            }
        }
        Ok(())
    }

    fn roll_back(&mut self, batch: &[Run<'_>]) {
        for run in batch {
            if let Some(sequence) = self.sequences.get_mut(&run.seq) {
                sequence.set_len(sequence.len());
            }
        }
    }

    fn commit(&mut self, batch: &[Run<'_>]) {
        for run in batch {
            if let Some(sequence) = self.sequences.get_mut(&run.seq) {
                sequence.set_len(sequence.len() + run.tokens.len());
            }
        }
    }
}

impl<S: SequenceKv> KvCache<S> {
    fn must_be_new(&self, seq: SeqId) -> Result<(), BackendError> {
        if self.sequences.contains_key(&seq) {
            return Err(invalid(format!("sequence {} is already open", seq.0)));
        }
        Ok(())
    }
}

fn unknown(seq: SeqId) -> BackendError {
    invalid(format!("there is no sequence {}", seq.0))
}

fn invalid(message: String) -> BackendError {
    BackendError::Invalid(message)
}
