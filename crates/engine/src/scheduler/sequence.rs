//! `Sequence`: the scheduler's view of one generation (its tokens and where its KV stands), and `Order`, its priority.

use crate::BlockId;
use crate::cache::Parent;

/// Who comes first: earlier requests, and earlier choices of the same request. The latest is preempted first, so the
/// first one always gets on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Order {
    pub(crate) arrival: u64,
    pub(crate) choice: usize,
}

/// What a new sequence is made of.
pub(crate) struct NewSequence {
    pub(crate) order: Order,
    pub(crate) prompt: Vec<u32>,
    /// The most tokens whose KV it may ever hold.
    pub(crate) max_len: usize,
    /// The prefix cache's salt.
    pub(crate) salt: u64,
    /// Every prompt token wants logits, so that none may come from the cache.
    pub(crate) scored: bool,
}

/// One generation. Running sequences have KV in the backend; waiting ones have none.
pub(crate) struct Sequence {
    pub(crate) order: Order,
    /// The prompt and all tokens generated so far. The last ones may not be computed yet.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_len: usize,
    pub(crate) max_len: usize,
    pub(crate) salt: u64,
    pub(crate) scored: bool,
    /// Tokens whose KV the backend holds.
    pub(crate) computed: usize,
    /// Tokens whose KV the ledger has set aside: at least `computed`, 0 while waiting.
    pub(crate) reserved: usize,
    pub(crate) chain: Chain,
    /// How often a later one was admitted before this one.
    pub(crate) passed_over: usize,
    /// Waits until that sequence has computed so many tokens, which this one can then take from the cache.
    pub(crate) follows: Option<(crate::SeqId, usize)>,
}

impl Sequence {
    pub(crate) fn new(new: NewSequence) -> Self {
        Self {
            order: new.order,
            prompt_len: new.prompt.len(),
            tokens: new.prompt,
            max_len: new.max_len,
            salt: new.salt,
            scored: new.scored,
            computed: 0,
            reserved: 0,
            chain: Chain::closed(),
            passed_over: 0,
            follows: None,
        }
    }

    /// Tokens that are not computed yet. One is a decode step; more is a prefill.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Whether it has more to compute than the next token.
    pub(crate) fn is_prefilling(&self) -> bool {
        self.pending() > 1
    }

    /// Tokens of KV that it alone pays for.
    pub(crate) fn private(&self, block_tokens: usize) -> usize {
        self.reserved - self.chain.shared * block_tokens
    }
}

/// A running sequence's way through the prefix cache's trie.
#[derive(Clone)]
pub(crate) struct Chain {
    /// Blocks that it keeps from eviction: all on its way, where the backend shares them; none where it copies.
    pub(crate) pinned: Vec<BlockId>,
    /// How many of them hold this sequence's own KV (and not a twin's that was computed beside it).
    pub(crate) shared: usize,
    /// Where its next complete block hangs; `None` when no more are saved.
    pub(crate) tip: Option<Parent>,
    /// Blocks that it has passed: the index of the next one.
    pub(crate) len: usize,
}

impl Chain {
    /// That of a sequence without KV.
    pub(crate) fn closed() -> Self {
        Self { pinned: Vec::new(), shared: 0, tip: None, len: 0 }
    }
}
