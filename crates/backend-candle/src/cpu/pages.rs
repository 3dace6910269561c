//! Pages: the KV of the CPU kernels, in pieces of [`PAGE_TOKENS`] tokens that sequences and saved blocks share.
//!
//! A page holds all layers of its tokens. For each layer and KV head lie a key tile and a value tile:
//! - keys `[head_dim][PAGE_TOKENS]`, transposed, so that one register holds one element of many keys and scores need
//!   no sum across lanes;
//! - values `[PAGE_TOKENS][padded]`, where `padded` is `head_dim` rounded up to a whole 16 lanes.
//!
//! Invariants:
//! - a page that has more than one owner is never written: [`PagedKv::reserve`] copies it first (copy on write);
//! - every byte of a page is initialised (fresh pages are zeroed); bytes beyond a sequence's length are stale;
//! - the offsets of a [`Layout`] lie inside its `bytes`, and every tile is aligned to [`ALIGN`].

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use perch_engine::{BackendError, SeqId};
use perch_model::{Mixer, ModelSpec};

use super::memory::Memory;
use perch_engine::kv::{KvCache, SequenceKv};

/// Tokens in a page; also the block of the online softmax, so borders lie at the same positions for every run.
pub(crate) const PAGE_TOKENS: usize = 32;

/// Alignment of a page and of every tile: a cache line, and the widest register.
const ALIGN: usize = 64;

/// Where the tiles of one layer lie in a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerLayout {
    /// KV heads.
    pub(crate) kv_heads: usize,
    /// Elements of a key.
    pub(crate) head_dim: usize,
    /// Elements of a value row, a multiple of 16.
    pub(crate) padded: usize,
    /// Byte offset of the first key tile.
    keys: usize,
    /// Byte offset of the first value tile.
    values: usize,
    /// Bytes of an element.
    element: usize,
}

impl LayerLayout {
    /// Byte offset of the key tile of `head`.
    pub(crate) fn key_tile(&self, head: usize) -> usize {
        debug_assert!(head < self.kv_heads);
        self.keys + head * self.head_dim * PAGE_TOKENS * self.element
    }

    /// Byte offset of the value tile of `head`.
    pub(crate) fn value_tile(&self, head: usize) -> usize {
        debug_assert!(head < self.kv_heads);
        self.values + head * self.padded * PAGE_TOKENS * self.element
    }
}

/// How a page is divided.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// One for each layer of the model.
    pub(crate) layers: Vec<LayerLayout>,
    /// Bytes of an element: 2 (f16) or 4 (f32).
    pub(crate) element: usize,
    /// Bytes of a page.
    pub(crate) bytes: usize,
}

impl Layout {
    /// The layout for `spec` with elements of `element` bytes.
    pub(crate) fn new(spec: &ModelSpec, element: usize) -> Self {
        let heads = spec.layers.iter().map(|layer| match &layer.mixer {
            Mixer::Attention(a) => (a.kv_heads, a.head_dim),
            other => (1, other.kv_width().0),
        });
        Self::of(&heads.collect::<Vec<_>>(), element)
    }

    /// The layout for layers of `(kv_heads, head_dim)`.
    pub(crate) fn of(heads: &[(usize, usize)], element: usize) -> Self {
        let mut bytes = 0;
        let mut layers = Vec::with_capacity(heads.len());
        for &(kv_heads, head_dim) in heads {
            let padded = head_dim.next_multiple_of(16);
            let keys = bytes;
            let values = keys + kv_heads * head_dim * PAGE_TOKENS * element;
            bytes = values + kv_heads * padded * PAGE_TOKENS * element;
            layers.push(LayerLayout { kv_heads, head_dim, padded, keys, values, element });
        }
        Self { layers, element, bytes: bytes.max(ALIGN) }
    }
}

/// Where pages come from, and where they go when the last owner lets go.
pub(crate) struct PagePool {
    layout: Layout,
    memory: RefCell<Memory>,
    live: Cell<usize>,
}

impl PagePool {
    /// A pool without pages.
    pub(crate) fn new(layout: Layout) -> Rc<Self> {
        let memory = RefCell::new(Memory::new(layout.bytes));
        Rc::new(Self { layout, memory, live: Cell::new(0) })
    }

    /// How its pages are divided.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Pages that somebody owns.
    #[cfg(test)]
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    fn page(self: &Rc<Self>) -> Result<Rc<Page>, BackendError> {
        let data = self.memory.borrow_mut().take().ok_or_else(|| {
            let message = format!("the system has no {} bytes for another page", self.layout.bytes);
            BackendError::OutOfMemory(message)
        })?;
        self.live.set(self.live.get() + 1);
        Ok(Rc::new(Page { data, pool: Rc::clone(self) }))
    }
}

/// One page, shared through `Rc`.
pub(crate) struct Page {
    data: NonNull<u8>,
    pool: Rc<PagePool>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.pool.live.set(self.pool.live.get() - 1);
        self.pool.memory.borrow_mut().give(self.data);
    }
}

/// The pages of one sequence, in order.
pub(crate) struct PagedKv {
    pages: Vec<Rc<Page>>,
    len: usize,
}

#[cfg(test)]
impl PagedKv {
    /// Sets every byte of its pages.
    pub(crate) fn fill(&mut self, byte: u8) {
        for page in &self.pages {
            // SAFETY: the page has that many bytes, and tests that call this share none.
            unsafe { page.data.write_bytes(byte, page.pool.layout.bytes) };
        }
    }
}

impl SequenceKv for PagedKv {
    type Context = Rc<PagePool>;
    type Block = Rc<Page>;

    fn open(_: &Rc<PagePool>, prefix: &[&Rc<Page>]) -> Result<Self, BackendError> {
        let pages: Vec<_> = prefix.iter().map(|page| Rc::clone(page)).collect();
        Ok(Self { len: pages.len() * PAGE_TOKENS, pages })
    }

    fn fork(&self, _: &Rc<PagePool>) -> Result<Self, BackendError> {
        Ok(Self { pages: self.pages.clone(), len: self.len })
    }

    fn len(&self) -> usize {
        self.len
    }

    fn set_len(&mut self, len: usize) {
        self.len = len;
        self.pages.truncate(len.div_ceil(PAGE_TOKENS));
    }

    fn reserve(&mut self, pool: &Rc<PagePool>, extra: usize) -> Result<(), BackendError> {
        if let Some(tail) = self.pages.get_mut(self.len / PAGE_TOKENS)
            && Rc::get_mut(tail).is_none()
        {
            let copy = pool.page()?;
            // SAFETY: both are pages of this layout, and the new one has no other owner.
            unsafe { copy.data.copy_from_nonoverlapping(tail.data, pool.layout.bytes) };
            *tail = copy;
        }
        while self.pages.len() * PAGE_TOKENS < self.len + extra {
            self.pages.push(pool.page()?);
        }
        Ok(())
    }

    fn save(&self, _: &Rc<PagePool>, index: usize) -> Result<Rc<Page>, BackendError> {
        Ok(Rc::clone(&self.pages[index]))
    }

    fn trim(pool: &Rc<PagePool>) {
        pool.memory.borrow_mut().trim();
    }
}

/// The pages of every run of a step, as the kernels see them: from many threads at once.
pub(crate) struct PageTable<'a> {
    layout: &'a Layout,
    pages: Vec<*mut u8>,
    starts: Vec<usize>,
}

// SAFETY: the pointers are to pages that outlive the table (it borrows the cache), and kernels write disjoint tiles of
// pages that have one owner (see `PagedKv::reserve`) before they read them.
unsafe impl Sync for PageTable<'_> {}

impl<'a> PageTable<'a> {
    /// The pages of `runs`, all of them reserved.
    pub(crate) fn new(
        cache: &'a KvCache<PagedKv>,
        runs: impl Iterator<Item = SeqId>,
    ) -> Result<Self, BackendError> {
        let (mut pages, mut starts) = (Vec::new(), vec![0]);
        for run in runs {
            pages.extend(cache.get(run)?.pages.iter().map(|page| page.data.as_ptr()));
            starts.push(pages.len());
        }
        Ok(Self { layout: cache.context().layout(), pages, starts })
    }

    /// How the pages are divided.
    pub(crate) fn layout(&self) -> &'a Layout {
        self.layout
    }

    /// Start of the page of run `run` that holds positions `index * PAGE_TOKENS ..`.
    pub(crate) fn page(&self, run: usize, index: usize) -> *mut u8 {
        self.pages[self.starts[run]..self.starts[run + 1]][index]
    }
}

#[cfg(test)]
mod tests {
    use perch_engine::{BlockId, Run, Wanted};

    use super::*;
    use perch_engine::kv::KvOps;

    const A: SeqId = SeqId(1);
    const B: SeqId = SeqId(2);

    /// A cache and its pool, with sequence `A` of `len` tokens.
    fn cache(len: usize) -> (KvCache<PagedKv>, Rc<PagePool>) {
        let pool = PagePool::new(Layout::of(&[(2, 24), (1, 64)], 2));
        let mut cache = KvCache::new(Rc::clone(&pool), PAGE_TOKENS);
        cache.open(A, &[]).unwrap();
        grow(&mut cache, A, len);
        (cache, pool)
    }

    fn grow(cache: &mut KvCache<PagedKv>, seq: SeqId, count: usize) {
        let run = Run { seq, tokens: &vec![0; count], position: 0, wanted: Wanted::None };
        cache.reserve(&[run]).unwrap();
        cache.commit(&[run]);
    }

    #[test]
    fn tiles_do_not_overlap_and_fill_the_page() {
        let layout = Layout::of(&[(2, 24), (1, 64)], 2);
        let mut tiles = Vec::new();
        for layer in &layout.layers {
            for head in 0..layer.kv_heads {
                tiles.push((layer.key_tile(head), layer.head_dim * PAGE_TOKENS * 2));
                tiles.push((layer.value_tile(head), layer.padded * PAGE_TOKENS * 2));
            }
        }
        tiles.sort();
        assert_eq!(tiles[0].0, 0);
        assert!(tiles.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
        assert!(tiles.iter().all(|(start, _)| start % ALIGN == 0));
        assert_eq!(tiles.last().map(|(start, len)| start + len), Some(layout.bytes));
    }

    #[test]
    fn open_fork_and_save_take_no_memory_and_a_write_copies_one_page() {
        let (mut cache, pool) = cache(2 * PAGE_TOKENS + 5);
        assert_eq!(pool.live(), 3);
        cache.save(A, 0, BlockId(0)).unwrap();
        cache.save(A, 1, BlockId(1)).unwrap();
        cache.fork(A, B).unwrap();
        cache.open(SeqId(3), &[BlockId(0), BlockId(1)]).unwrap();
        assert_eq!(pool.live(), 3);
        grow(&mut cache, B, 1);
        assert_eq!(pool.live(), 4, "the half-full page had two owners");
        grow(&mut cache, A, 1);
        assert_eq!(pool.live(), 4, "and then had one");
        grow(&mut cache, SeqId(3), 1);
        assert_eq!(pool.live(), 5, "a whole page is not written again");
        cache.truncate(SeqId(3), PAGE_TOKENS + 1).unwrap();
        assert_eq!(pool.live(), 4);
        grow(&mut cache, SeqId(3), 1);
        assert_eq!(pool.live(), 5, "a saved page is copied before it is written");
    }

    #[test]
    fn memory_goes_back_when_the_last_owner_lets_go() {
        let (mut cache, pool) = cache(3 * PAGE_TOKENS);
        cache.save(A, 2, BlockId(9)).unwrap();
        cache.close(A);
        assert_eq!((pool.live(), pool.memory.borrow().spare()), (1, 2));
        cache.trim();
        cache.forget(BlockId(9));
        assert_eq!((pool.live(), pool.memory.borrow().spare()), (0, 3));
    }

    #[test]
    fn a_pass_that_fails_gives_its_pages_back() {
        let (mut cache, pool) = cache(PAGE_TOKENS);
        let run = Run { seq: A, tokens: &[0; 100], position: PAGE_TOKENS, wanted: Wanted::None };
        cache.reserve(&[run]).unwrap();
        assert_eq!(pool.live(), 5);
        cache.roll_back(&[run]);
        assert_eq!((pool.live(), cache.len_of(A).unwrap()), (1, PAGE_TOKENS));
    }
}
