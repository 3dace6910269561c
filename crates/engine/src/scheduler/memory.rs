//! The ledger: where KV is set aside, given back, and moved between sequences and the prefix cache.
//!
//! A sequence that is admitted gets KV for all its tokens at once, so that a prefill never stops half-way for want of
//! memory; after that it grows by the token. Where the backend shares blocks, a block's KV is counted once, as the
//! cache's, however many sequences use it, and stays as long as one does; where it copies, each copy counts.

use std::collections::BTreeMap;

use super::{Action, Chain, Order, Scheduler, Sequence};
use crate::cache::Parent;
use crate::{BlockId, SeqId};

impl Scheduler {
    /// Tokens of KV set aside.
    pub(crate) fn used(&self) -> usize {
        self.private + self.cached()
    }

    /// Of these, tokens in the prefix cache.
    pub(crate) fn cached(&self) -> usize {
        self.cache.len() * self.block_tokens
    }

    /// Blocks in the prefix cache.
    pub(crate) fn cached_blocks(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn free(&self) -> usize {
        self.ceiling.saturating_sub(self.used())
    }

    /// Tokens in blocks that nothing but the cache needs.
    pub(super) fn evictable(&self) -> usize {
        self.cache.unpinned() * self.block_tokens
    }

    /// Evicts until `needed` tokens are free; evicts nothing when that cannot be.
    pub(super) fn evict_until_free(&mut self, needed: usize) -> bool {
        if self.free() + self.evictable() < needed {
            return false;
        }
        while self.free() < needed {
            if !self.evict(None) {
                return false;
            }
        }
        true
    }

    fn evict(&mut self, keep: Option<BlockId>) -> bool {
        let evicted = self.cache.evict(keep);
        self.actions.extend(evicted.map(Action::Forget));
        evicted.is_some()
    }

    /// Changes what a sequence holds, and the total with it.
    pub(super) fn account(&mut self, id: SeqId, change: impl FnOnce(&mut Sequence)) {
        let block_tokens = self.block_tokens;
        let seq = self.sequence_mut(id);
        let before = seq.private(block_tokens);
        change(seq);
        let after = seq.private(block_tokens);
        self.private = self.private + after - before;
    }

    /// Sets KV aside for all tokens of a sequence.
    pub(super) fn reserve_all(&mut self, id: SeqId) {
        self.account(id, |seq| seq.reserved = seq.tokens.len());
    }

    /// Moves a waiting sequence to the running ones, with KV for all its tokens, the first ones from the pinned blocks
    /// of `hit`.
    pub(super) fn open(&mut self, id: SeqId, hit: Vec<BlockId>) {
        let (order, salt) = (self.sequence(id).order, self.sequence(id).salt);
        self.waiting.remove(&order);
        self.running.insert(order, id);
        let root = self.cache.is_enabled().then_some(Parent::Root(salt));
        let mut chain = Chain {
            pinned: Vec::new(),
            shared: 0,
            tip: hit.last().map(|&block| Parent::Block(block)).or(root),
            len: hit.len(),
        };
        if self.shares_blocks {
            chain.shared = hit.len();
            chain.pinned = hit.clone();
        } else {
            self.cache.unpin(&hit);
        }
        let computed = hit.len() * self.block_tokens;
        self.account(id, |seq| {
            (seq.chain, seq.computed, seq.reserved) = (chain, computed, seq.tokens.len());
        });
        self.actions.push_back(Action::Open { seq: id, prefix: hit });
    }

    /// Takes back all KV of a sequence.
    pub(super) fn release(&mut self, id: SeqId) {
        let mut chain = Chain::closed();
        self.account(id, |seq| {
            std::mem::swap(&mut chain, &mut seq.chain);
            (seq.reserved, seq.computed) = (0, 0);
        });
        self.cache.unpin(&chain.pinned);
        self.actions.push_back(Action::Close(id));
    }

    /// Puts the blocks that a sequence has completed into the prefix cache, unless a twin's are there already. Where
    /// there is no room for one, it stops for good: later blocks would have no parent.
    pub(super) fn save_complete_blocks(&mut self, id: SeqId) {
        loop {
            let seq = self.sequence(id);
            let index = seq.chain.len;
            let (start, end) = (index * self.block_tokens, (index + 1) * self.block_tokens);
            let Some(tip) = seq.chain.tip.filter(|_| end <= seq.computed) else { return };
            let tokens = seq.tokens[start..end].to_vec();

            let twin = self.cache.find(tip, &tokens);
            let own = if twin.is_none() { self.insert_block(tip, &tokens) } else { None };
            let block = twin.or(own);
            if self.shares_blocks {
                self.cache.pin(block.as_slice());
            }
            let pins = self.shares_blocks;
            self.account(id, |seq| {
                seq.chain.tip = block.map(Parent::Block);
                seq.chain.len += 1;
                seq.chain.pinned.extend(block.filter(|_| pins));
                seq.chain.shared += usize::from(pins && own.is_some());
            });
            if let Some(block) = own {
                self.actions.push_back(Action::Save { seq: id, index, block });
            }
        }
    }

    fn insert_block(&mut self, tip: Parent, tokens: &[u32]) -> Option<BlockId> {
        let keep = match tip {
            Parent::Root(_) => None,
            Parent::Block(block) => Some(block),
        };
        if self.cache.is_full() && !self.evict(keep) {
            return None;
        }
        while !self.shares_blocks && self.free() < self.block_tokens {
            if !self.evict(keep) {
                return None;
            }
        }
        self.cache.insert(tip, tokens)
    }

    /// The backend could not keep a block.
    pub(crate) fn not_saved(&mut self, id: SeqId, block: BlockId) {
        self.cache.disown(block);
        if let Some(seq) = self.sequences.get_mut(&id) {
            seq.chain.tip = None;
        }
    }

    /// The backend has run out of memory below the budget, for the sake of `id` if it is known. Lowers the ceiling beneath
    /// what is in use now, and evicts and preempts down to it. Returns the sequence for which nothing more can be done:
    /// the only one, with nothing but its own KV in memory.
    pub(crate) fn out_of_memory(&mut self, id: Option<SeqId>) -> Option<SeqId> {
        let used = self.used();
        let latest = |running: &BTreeMap<Order, SeqId>| running.values().next_back().copied();
        if self.running.len() == 1
            && let Some(only) = latest(&self.running)
            && used <= self.sequence(only).reserved
        {
            return Some(only);
        }
        self.ceiling = self.ceiling.min(used.saturating_sub((used / 16).max(1)));
        id.into_iter().for_each(|id| self.preempt(id));
        while self.used() > self.ceiling {
            if self.evict(None) {
                continue;
            }
            let Some(latest) = latest(&self.running) else { break };
            self.preempt(latest);
        }
        None
    }

    /// What runs alone may use the whole budget, however low the ceiling: whether memory is really short will show.
    /// False when even the budget does not allow `tokens`.
    pub(super) fn raise_ceiling(&mut self, tokens: usize) -> bool {
        self.ceiling = self.ceiling.max(tokens.min(self.budget));
        self.ceiling >= tokens
    }

    /// Nothing runs or waits: whatever took the memory may be gone, so the whole budget counts again.
    pub(crate) fn rest(&mut self) {
        self.ceiling = self.budget;
    }
}
