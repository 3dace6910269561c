//! `PrefixCache`: which blocks of KV the backend keeps, by the tokens that made them.
//!
//! A trie: each node is one saved block of exactly `block_tokens` tokens, found from its parent by those tokens, so that
//! a hit means equal tokens from position 0 on, not just an equal hash. Each salt has a root of its own.
//!
//! Invariants, verified by [`PrefixCache::check`]:
//! - a block is evicted only when nothing pins it and no block hangs below it; the least recently used goes first;
//! - whoever pins a block pins its ancestors too, so everything unpinned can be evicted in some order;
//! - there are never more than `capacity` blocks.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::BlockId;

/// Where a block hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// At the root of this salt: it holds the first tokens of a sequence.
    Root(u64),
    /// Below this block.
    Block(BlockId),
}

type Children = HashMap<Arc<[u32]>, BlockId>;

struct Node {
    parent: Parent,
    tokens: Arc<[u32]>,
    children: Children,
    pins: usize,
    last_used: u64,
}

impl Node {
    fn is_evictable(&self) -> bool {
        self.pins == 0 && self.children.is_empty()
    }
}

/// The bookkeeping of saved blocks; the backend holds their KV.
pub(crate) struct PrefixCache {
    block_tokens: usize,
    capacity: usize,
    nodes: HashMap<BlockId, Node>,
    roots: HashMap<u64, Children>,
    /// Exactly the evictable nodes, by last use.
    evictable: BTreeSet<(u64, BlockId)>,
    pinned: usize,
    next_id: u64,
    clock: u64,
}

impl PrefixCache {
    /// An empty cache of at most `capacity` blocks of `block_tokens` tokens.
    pub(crate) fn new(block_tokens: usize, capacity: usize) -> Self {
        Self {
            block_tokens,
            capacity,
            nodes: HashMap::new(),
            roots: HashMap::new(),
            evictable: BTreeSet::new(),
            pinned: 0,
            next_id: 0,
            clock: 0,
        }
    }

    /// Forgets everything (the backend is gone). Ids go on, so that none is used twice.
    pub(crate) fn reset(&mut self) {
        let next_id = self.next_id;
        *self = Self { next_id, ..Self::new(self.block_tokens, self.capacity) };
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.capacity > 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.nodes.len() >= self.capacity
    }

    /// Blocks held.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Blocks that could be evicted, one after another.
    pub(crate) fn unpinned(&self) -> usize {
        self.nodes.len() - self.pinned
    }

    /// The longest chain of blocks that holds the first tokens of `tokens`, at most `most` of them.
    pub(crate) fn lookup(&mut self, salt: u64, tokens: &[u32], most: usize) -> Vec<BlockId> {
        let mut found = Vec::new();
        let mut parent = Parent::Root(salt);
        for chunk in tokens.chunks_exact(self.block_tokens).take(most) {
            let Some(id) = self.find(parent, chunk) else { break };
            found.push(id);
            parent = Parent::Block(id);
        }
        found
    }

    /// The block below `parent` that holds `tokens`; finding it counts as a use.
    pub(crate) fn find(&mut self, parent: Parent, tokens: &[u32]) -> Option<BlockId> {
        let id = *self.children(parent)?.get(tokens)?;
        self.clock += 1;
        let now = self.clock;
        self.update(id, |node| node.last_used = now);
        Some(id)
    }

    /// Adds a block below `parent`. `None` when the cache is full or the parent has been evicted.
    pub(crate) fn insert(&mut self, parent: Parent, tokens: &[u32]) -> Option<BlockId> {
        debug_assert_eq!(tokens.len(), self.block_tokens);
        if self.is_full() {
            return None;
        }
        let id = BlockId(self.next_id);
        let tokens: Arc<[u32]> = tokens.into();
        match parent {
            Parent::Root(salt) => {
                self.roots.entry(salt).or_default().insert(tokens.clone(), id);
            }
            Parent::Block(above) => {
                self.nodes.contains_key(&above).then_some(())?;
                let tokens = tokens.clone();
                self.update(above, |node| {
                    node.children.insert(tokens, id);
                });
            }
        }
        self.next_id += 1;
        self.clock += 1;
        let node = Node { parent, tokens, children: Children::new(), pins: 0, last_used: self.clock };
        self.evictable.insert((node.last_used, id));
        self.nodes.insert(id, node);
        Some(id)
    }

    /// Evicts the least recently used block that nothing needs, but not `keep`.
    pub(crate) fn evict(&mut self, keep: Option<BlockId>) -> Option<BlockId> {
        let &(_, id) = self.evictable.iter().find(|(_, id)| Some(*id) != keep)?;
        self.unlink(id);
        let node = self.nodes.remove(&id)?;
        self.evictable.remove(&(node.last_used, id));
        Some(id)
    }

    /// Makes sure that `id` is never found again (the backend could not save it). It stays in the books until it is
    /// evicted, because sequences may have pinned it.
    pub(crate) fn disown(&mut self, id: BlockId) {
        self.unlink(id);
    }

    pub(crate) fn pin(&mut self, blocks: &[BlockId]) {
        for &id in blocks {
            self.update(id, |node| node.pins += 1);
        }
    }

    pub(crate) fn unpin(&mut self, blocks: &[BlockId]) {
        for &id in blocks {
            self.update(id, |node| node.pins -= 1);
        }
    }

    fn children(&self, parent: Parent) -> Option<&Children> {
        match parent {
            Parent::Root(salt) => self.roots.get(&salt),
            Parent::Block(id) => self.nodes.get(&id).map(|node| &node.children),
        }
    }

    /// Takes `id` out of its parent's children, if it is there.
    fn unlink(&mut self, id: BlockId) {
        let Some(node) = self.nodes.get(&id) else { return };
        let (parent, tokens) = (node.parent, node.tokens.clone());
        let is_child = |children: &Children| children.get(&tokens) == Some(&id);
        match parent {
            Parent::Root(salt) => {
                let Some(children) = self.roots.get_mut(&salt) else { return };
                if is_child(children) {
                    children.remove(&tokens);
                }
                if children.is_empty() {
                    self.roots.remove(&salt);
                }
            }
            Parent::Block(above) => self.update(above, |node| {
                if is_child(&node.children) {
                    node.children.remove(&tokens);
                }
            }),
        }
    }

    /// Changes a node and keeps `evictable` and `pinned` true to it.
    fn update(&mut self, id: BlockId, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if node.is_evictable() {
            self.evictable.remove(&(node.last_used, id));
        }
        self.pinned -= usize::from(node.pins > 0);
        change(node);
        self.pinned += usize::from(node.pins > 0);
        if node.is_evictable() {
            self.evictable.insert((node.last_used, id));
        }
    }

    /// Verifies the invariants; `pins` says how many sequences pin each block.
    pub(crate) fn check(&self, pins: &HashMap<BlockId, usize>) -> Result<(), String> {
        if self.nodes.len() > self.capacity {
            return Err(format!("{} blocks in a cache of {}", self.nodes.len(), self.capacity));
        }
        for (id, node) in &self.nodes {
            let expected = pins.get(id).copied().unwrap_or(0);
            if node.pins != expected {
                return Err(format!("{id:?} has {} pins, but {expected} sequences use it", node.pins));
            }
            if node.is_evictable() != self.evictable.contains(&(node.last_used, *id)) {
                return Err(format!("{id:?} is wrongly listed as evictable or not"));
            }
            let stray = node
                .children
                .values()
                .find(|child| self.nodes.get(child).is_none_or(|child| child.parent != Parent::Block(*id)));
            if let Some(child) = stray {
                return Err(format!("{child:?} is not a child of {id:?}"));
            }
        }
        let evictable = self.nodes.values().filter(|node| node.is_evictable()).count();
        let pinned = self.nodes.values().filter(|node| node.pins > 0).count();
        if (evictable, pinned) != (self.evictable.len(), self.pinned) {
            return Err("the counts of evictable and pinned blocks are wrong".to_owned());
        }
        if let Some(id) = pins.keys().find(|id| !self.nodes.contains_key(id)) {
            return Err(format!("a sequence uses {id:?}, which is gone"));
        }
        let roots_live =
            self.roots.values().all(|c| !c.is_empty() && c.values().all(|id| self.nodes.contains_key(id)));
        if roots_live { Ok(()) } else { Err("a root is empty or names a block that is gone".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Parent = Parent::Root(0);

    /// A cache of 4 blocks of 2 tokens with the chains 1,2,3 and 1,9: block ids 0, 1, 2 and 3.
    fn forked_chain() -> PrefixCache {
        let mut cache = PrefixCache::new(2, 4);
        let a = cache.insert(ROOT, &[1, 1]).unwrap();
        let b = cache.insert(Parent::Block(a), &[2, 2]).unwrap();
        cache.insert(Parent::Block(b), &[3, 3]).unwrap();
        cache.insert(Parent::Block(a), &[9, 9]).unwrap();
        cache
    }

    fn check(cache: &PrefixCache) {
        cache.check(&HashMap::new()).unwrap();
    }

    #[test]
    fn a_lookup_finds_the_longest_chain_of_equal_tokens() {
        let mut cache = forked_chain();
        assert_eq!(cache.lookup(0, &[1, 1, 2, 2, 3, 3, 4], 9), [BlockId(0), BlockId(1), BlockId(2)]);
        assert_eq!(cache.lookup(0, &[1, 1, 9, 9, 3, 3], 9), [BlockId(0), BlockId(3)]);
        assert_eq!(cache.lookup(0, &[1, 1, 2, 2, 3, 3], 2), [BlockId(0), BlockId(1)]);
        assert_eq!(cache.lookup(0, &[2, 2], 9), [], "a block in the middle is no prefix");
        assert_eq!(cache.lookup(0, &[1], 9), [], "half a block is not looked up");
        assert_eq!(cache.lookup(7, &[1, 1], 9), [], "another salt shares nothing");
        check(&cache);
    }

    #[test]
    fn eviction_takes_the_least_recently_used_leaf() {
        let mut cache = forked_chain();
        cache.lookup(0, &[1, 1, 2, 2, 3, 3], 9);
        let order: Vec<BlockId> = std::iter::from_fn(|| cache.evict(None)).collect();
        assert_eq!(order, [BlockId(3), BlockId(2), BlockId(1), BlockId(0)]);
        check(&cache);
        assert!(cache.roots.is_empty(), "an empty root is not kept");
    }

    #[test]
    fn pinned_blocks_and_the_one_to_keep_are_not_evicted() {
        let mut cache = forked_chain();
        let chain = cache.lookup(0, &[1, 1, 2, 2], 9);
        cache.pin(&chain);
        assert_eq!(cache.unpinned(), 2);
        assert_eq!(cache.evict(Some(BlockId(2))), Some(BlockId(3)));
        assert_eq!(cache.evict(Some(BlockId(2))), None);
        assert_eq!(cache.evict(None), Some(BlockId(2)));
        assert_eq!(cache.evict(None), None);
        cache.unpin(&chain);
        assert_eq!(cache.evict(None), Some(BlockId(1)));
        check(&cache);
    }

    #[test]
    fn a_full_cache_and_a_missing_parent_refuse_a_block() {
        let mut cache = forked_chain();
        assert_eq!(cache.insert(ROOT, &[5, 5]), None);
        cache.evict(None).unwrap();
        assert_eq!(cache.insert(Parent::Block(BlockId(99)), &[5, 5]), None);
        assert!(cache.insert(ROOT, &[5, 5]).is_some());
        check(&cache);
    }

    #[test]
    fn a_disowned_block_is_not_found_but_stays_until_it_is_evicted() {
        let mut cache = forked_chain();
        cache.disown(BlockId(1));
        assert_eq!(cache.lookup(0, &[1, 1, 2, 2, 3, 3], 9), [BlockId(0)]);
        check(&cache);
        let evicted: BTreeSet<BlockId> = std::iter::from_fn(|| cache.evict(None)).collect();
        assert_eq!(evicted.len(), 4);
        check(&cache);
    }
}
