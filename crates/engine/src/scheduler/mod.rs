//! `Scheduler`: pure bookkeeping of sequences and KV; no tensors, channels or clock.
//!
//! Each step: [`Scheduler::plan`] gives the runs of one forward pass, [`Scheduler::next_action`] what the backend has to
//! do before it (in order), and [`Scheduler::advance`] and [`Scheduler::push`] tell it what came of them. Prefill and
//! decode are one thing: a running sequence has tokens, some of them computed, and the rest is run.
//!
//! Invariants, verified by [`Scheduler::check`]:
//! - each sequence is either running (it has KV) or waiting (it has none);
//! - KV set aside for sequences and blocks never exceeds the budget, and covers what the backend holds;
//! - the oldest running sequence is never preempted for another one.

mod check;
mod memory;
mod plan;
mod sequence;

use std::collections::{BTreeMap, HashMap, VecDeque};

use sequence::{Chain, Sequence};
pub(crate) use sequence::{NewSequence, Order};

use crate::cache::PrefixCache;
use crate::validate::budget_tokens;
use crate::{BlockId, EngineConfig, Limits, SeqId, Wanted};

/// What the backend has to do before the next forward pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Begin a sequence with these blocks.
    Open { seq: SeqId, prefix: Vec<BlockId> },
    /// Begin `to` with the KV of `from`.
    Fork { from: SeqId, to: SeqId },
    /// Keep a complete block.
    Save { seq: SeqId, index: usize, block: BlockId },
    /// Forget a saved block.
    Forget(BlockId),
    /// End a sequence.
    Close(SeqId),
}

/// New tokens of one sequence in the planned step: positions `start .. start + len`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedRun {
    pub(crate) seq: SeqId,
    pub(crate) start: usize,
    pub(crate) len: usize,
    pub(crate) wanted: Wanted,
}

/// Totals since the engine started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) lookup_tokens: u64,
    pub(crate) hit_tokens: u64,
    pub(crate) preemptions: u64,
}

/// Who runs, who waits, and where the KV goes. All sizes are in tokens of KV.
pub(crate) struct Scheduler {
    block_tokens: usize,
    shares_blocks: bool,
    max_sequences: usize,
    max_batch_tokens: usize,
    /// Prompt tokens of a step in which streams run.
    chunk_beside_streams: usize,
    budget: usize,
    /// The budget, or less after the backend ran out of memory.
    ceiling: usize,
    /// Set aside for running sequences, shared blocks not counted.
    private: usize,
    sequences: HashMap<SeqId, Sequence>,
    running: BTreeMap<Order, SeqId>,
    waiting: BTreeMap<Order, SeqId>,
    cache: PrefixCache,
    actions: VecDeque<Action>,
    next_id: u32,
    counters: Counters,
}

impl Scheduler {
    /// An empty scheduler. A budget or cache that is no whole number of tokens or blocks is rounded down.
    pub(crate) fn new(limits: &Limits, config: &EngineConfig) -> Self {
        let block_tokens = limits.block_tokens.max(1);
        let budget = budget_tokens(limits, config.kv_budget_bytes);
        let cached = budget_tokens(limits, config.prefix_cache_bytes.min(config.kv_budget_bytes));
        Self {
            block_tokens,
            shares_blocks: limits.shares_blocks,
            max_sequences: config.max_sequences.max(1),
            max_batch_tokens: config.max_batch_tokens.max(1),
            chunk_beside_streams: config.max_batch_tokens,
            budget,
            ceiling: budget,
            private: 0,
            sequences: HashMap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            cache: PrefixCache::new(block_tokens, cached / block_tokens),
            actions: VecDeque::new(),
            next_id: 0,
            counters: Counters::default(),
        }
    }

    /// Adds a waiting sequence.
    pub(crate) fn add(&mut self, new: NewSequence) -> SeqId {
        let order = new.order;
        let id = self.insert(Sequence::new(new));
        self.waiting.insert(order, id);
        id
    }

    /// Adds a sequence that goes on from `from`, all of whose tokens are computed. It runs at once (true) where there is
    /// a place and KV, and otherwise waits as if it had been preempted.
    pub(crate) fn fork(&mut self, from: SeqId, order: Order) -> (SeqId, bool) {
        let parent = self.sequence(from);
        debug_assert_eq!(parent.pending(), 0);
        let new = NewSequence {
            order,
            prompt: parent.tokens.clone(),
            max_len: parent.max_len,
            salt: parent.salt,
            scored: false,
        };
        let (chain, len) = (parent.chain.clone(), parent.computed);
        let id = self.add(new);
        let needed = len - chain.shared * self.block_tokens;
        let fits = self.free() + self.evictable() >= needed + self.headroom(id);
        if self.running.len() >= self.max_sequences || !fits || !self.evict_until_free(needed) {
            return (id, false);
        }
        self.waiting.remove(&order);
        self.running.insert(order, id);
        self.cache.pin(&chain.pinned);
        self.account(id, |seq| (seq.chain, seq.reserved, seq.computed) = (chain, len, len));
        self.actions.push_back(Action::Fork { from, to: id });
        (id, true)
    }

    /// The backend has computed a run.
    pub(crate) fn advance(&mut self, run: &PlannedRun) {
        let seq = self.sequence_mut(run.seq);
        seq.computed += run.len;
        if seq.computed >= seq.prompt_len {
            seq.scored = false;
        }
        self.save_complete_blocks(run.seq);
    }

    /// A sequence has generated a token, which is to be run next.
    pub(crate) fn push(&mut self, id: SeqId, token: u32) {
        self.sequence_mut(id).tokens.push(token);
    }

    /// A running sequence gives up its KV and waits; what it has in the prefix cache may still be there later.
    pub(crate) fn preempt(&mut self, id: SeqId) {
        let order = self.sequence(id).order;
        if self.running.remove(&order).is_some() {
            self.counters.preemptions += 1;
            self.release(id);
            self.waiting.insert(order, id);
        }
    }

    /// Ends a sequence, wherever it stands.
    pub(crate) fn finish(&mut self, id: SeqId) {
        let order = self.sequence(id).order;
        if self.running.remove(&order).is_some() {
            self.release(id);
        }
        self.waiting.remove(&order);
        self.sequences.remove(&id);
    }

    /// The backend is gone with all it held: waiting sequences stay, those still running are dropped.
    pub(crate) fn reset(&mut self) {
        for id in self.running().collect::<Vec<_>>() {
            self.finish(id);
        }
        self.cache.reset();
        self.actions.clear();
        self.ceiling = self.budget;
    }

    /// From now on, steps in which streams run have at most so many prompt tokens (and at least one).
    pub(crate) fn set_chunk_beside_streams(&mut self, tokens: usize) {
        self.chunk_beside_streams = tokens;
    }

    /// The next thing for the backend to do, in order.
    pub(crate) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether a planned run can still be carried out: its sequence runs and stands where it stood.
    pub(crate) fn is_current(&self, run: &PlannedRun) -> bool {
        self.running_sequence(run.seq).is_some_and(|seq| seq.computed == run.start)
    }

    /// The tokens of a planned run.
    pub(crate) fn run_tokens(&self, run: &PlannedRun) -> &[u32] {
        &self.sequence(run.seq).tokens[run.start..run.start + run.len]
    }

    /// The prompt and all generated tokens.
    pub(crate) fn tokens(&self, id: SeqId) -> &[u32] {
        &self.sequence(id).tokens
    }

    pub(crate) fn is_running(&self, id: SeqId) -> bool {
        self.running_sequence(id).is_some()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = SeqId> {
        self.running.values().copied()
    }

    pub(crate) fn running_len(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    fn insert(&mut self, seq: Sequence) -> SeqId {
        while self.sequences.contains_key(&SeqId(self.next_id)) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = SeqId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.sequences.insert(id, seq);
        id
    }

    /// A sequence that is known to exist: ids leave this module only through `add` and `fork`, and are not used after
    /// `finish`.
    fn sequence(&self, id: SeqId) -> &Sequence {
        &self.sequences[&id]
    }

    fn sequence_mut(&mut self, id: SeqId) -> &mut Sequence {
        self.sequences.get_mut(&id).expect("a sequence is used after it was finished")
    }

    fn running_sequence(&self, id: SeqId) -> Option<&Sequence> {
        self.sequences.get(&id).filter(|seq| self.running.contains_key(&seq.order))
    }
}
