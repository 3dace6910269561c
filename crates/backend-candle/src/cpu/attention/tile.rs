//! Attention of one tile: some queries of one run, all query heads of one KV head, over the pages they see.
//!
//! Rows are `(query, head of the group)`, query first. Per row the pages are walked in ascending order with an online
//! softmax; every [`SPLIT_PAGES`] pages a new partial sum begins, and partial sums are merged in ascending order. Both
//! borders are fixed by absolute position, so a row's bits are the same in a tile of one query and in a tile of many,
//! and whether its splits were computed by one thread or by several.

use std::ops::Range;

use super::super::pages::{LayerLayout, PAGE_TOKENS};
use super::super::simd::{Element, Kernel, Lanes};
use super::micro::{PageTile, add_values, scores};
use super::{Step, append};

/// Pages in a split: 512 tokens. Long enough that merging costs nothing, short enough to feed many threads.
pub(super) const SPLIT_PAGES: usize = 16;

/// From this many rows on, a page's tiles are widened to `f32` once instead of at every use.
const WIDEN_ROWS: usize = 16;

/// Lanes of a sum of weights, enough for any register.
const SUMS: usize = 16;

/// Softmax state of a tile's rows: the sum of weighted values, the sum of weights, the largest score.
pub(super) struct Partial<'a> {
    /// `[rows, padded]`.
    pub(super) values: &'a mut [f32],
    /// `[rows, SUMS]`: sums by lane.
    pub(super) weights: &'a mut [f32],
    /// `[rows]`; −∞ in a row that has seen no key.
    pub(super) largest: &'a mut [f32],
}

impl<'a> Partial<'a> {
    /// Floats of a partial for `rows` rows.
    pub(super) fn floats(rows: usize, padded: usize) -> usize {
        rows * (padded + SUMS + 1)
    }

    /// Lays one out in `memory`, which it fills.
    pub(super) fn new(memory: &'a mut [f32], rows: usize) -> Self {
        let (weights, memory) = memory.split_at_mut(rows * SUMS);
        let (largest, values) = memory.split_at_mut(rows);
        Self { values, weights, largest }
    }

    fn reset(&mut self) {
        self.values.fill(0.0);
        self.weights.fill(0.0);
        self.largest.fill(f32::NEG_INFINITY);
    }

    /// Adds a later partial.
    #[inline(always)]
    unsafe fn merge<L: Lanes>(&mut self, later: &Partial<'_>) {
        let padded = self.values.len() / self.largest.len();
        for row in 0..self.largest.len() {
            let (old, new) = (self.largest[row], later.largest[row]);
            let values = &mut self.values[row * padded..][..padded];
            let added = &later.values[row * padded..][..padded];
            if new == f32::NEG_INFINITY {
                continue;
            }
            if old == f32::NEG_INFINITY {
                values.copy_from_slice(added);
                self.weights[row * SUMS..][..SUMS].copy_from_slice(&later.weights[row * SUMS..][..SUMS]);
                self.largest[row] = new;
                continue;
            }
            let largest = old.max(new);
            // SAFETY: both rows have `padded` elements and `SUMS` sums, whole registers.
            unsafe {
                let (keep, add) = (L::splat(exp::<L>(old - largest)), L::splat(exp::<L>(new - largest)));
                for i in (0..padded).step_by(L::N) {
                    let sum = L::load(values.as_ptr().add(i)).mul(keep);
                    sum.fma(L::load(added.as_ptr().add(i)), add).store(values.as_mut_ptr().add(i));
                }
                let sums = self.weights.as_mut_ptr().add(row * SUMS);
                let added = L::load(later.weights.as_ptr().add(row * SUMS));
                L::load(sums).mul(keep).fma(added, add).store(sums);
            }
            self.largest[row] = largest;
        }
    }
}

#[inline(always)]
unsafe fn exp<L: Lanes>(x: f32) -> f32 {
    // SAFETY: inside a kernel.
    unsafe { L::splat(x).exp().largest() }
}

/// What a tile is to compute.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Which run of the step.
    pub(super) run: usize,
    /// Which KV head.
    pub(super) head: usize,
    /// Which of the run's tokens.
    pub(super) queries: Range<usize>,
    /// Which splits of the positions these queries see.
    pub(super) splits: Range<usize>,
    /// Whether the tile first writes these tokens' keys and values of this head (no other tile reads them).
    pub(super) append: bool,
}

/// Memory of a thread for one tile.
pub(super) struct Scratch<'a> {
    q: &'a mut [f32],
    scores: &'a mut [f32],
    keys: &'a mut [f32],
    values: &'a mut [f32],
    split: Partial<'a>,
}

impl<'a> Scratch<'a> {
    /// Floats for `rows` rows of a layer.
    pub(super) fn floats(rows: usize, layer: &LayerLayout) -> usize {
        let page = (layer.head_dim + layer.padded) * PAGE_TOKENS;
        rows * (layer.head_dim + PAGE_TOKENS) + page + Partial::floats(rows, layer.padded)
    }

    /// Lays it out in `memory`, which has [`Scratch::floats`] floats.
    pub(super) fn new(memory: &'a mut [f32], rows: usize, layer: &LayerLayout) -> Self {
        let (q, memory) = memory.split_at_mut(rows * layer.head_dim);
        let (scores, memory) = memory.split_at_mut(rows * PAGE_TOKENS);
        let (keys, memory) = memory.split_at_mut(layer.head_dim * PAGE_TOKENS);
        let (values, memory) = memory.split_at_mut(layer.padded * PAGE_TOKENS);
        Self { q, scores, keys, values, split: Partial::new(memory, rows) }
    }
}

/// Computes `item` into `total`.
pub(super) struct Tile<'a, E> {
    pub(super) step: &'a Step<'a>,
    pub(super) item: &'a Item,
    pub(super) scratch: Scratch<'a>,
    pub(super) total: Partial<'a>,
    pub(super) element: std::marker::PhantomData<E>,
}

impl<E: Element> Kernel for Tile<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        // SAFETY: the step's tensors have the shapes of its layer (checked by `attend`), all positions below are
        // covered by the run's pages, and the tile's scratch was laid out for its rows.
        unsafe {
            self.stage_queries::<L>();
            self.total.reset();
            for split in self.item.splits.clone() {
                self.scratch.split.reset();
                for page in split * SPLIT_PAGES..((split + 1) * SPLIT_PAGES).min(self.pages()) {
                    self.page::<L>(page);
                }
                self.total.merge::<L>(&self.scratch.split);
            }
        }
    }
}

impl<E: Element> Tile<'_, E> {
    /// Copies the queries, normalised, rotated and scaled, so that rows lie one after another.
    #[inline(always)]
    unsafe fn stage_queries<L: Lanes>(&mut self) {
        let heads = self.step.heads;
        let group = self.step.group();
        let first = self.step.spans[self.item.run].start;
        for (row, out) in self.scratch.q.chunks_exact_mut(heads.head_dim).enumerate() {
            let token = first + self.item.queries.start + row / group;
            let head = self.item.head * group + row % group;
            // SAFETY: the token and the head exist, and `out` has a head's elements.
            unsafe {
                let q = self.step.q.as_ptr().add((token * heads.heads + head) * heads.head_dim);
                append::stage_row::<L>(self.step.q_norm, self.step.rotation.as_ref(), (q, token), out);
                for i in (0..heads.head_dim).step_by(L::N) {
                    let n = heads.head_dim - i;
                    let scaled = L::load_some(out.as_ptr().add(i), n).mul(L::splat(heads.scale));
                    scaled.store_some(out.as_mut_ptr().add(i), n);
                }
            }
        }
    }

    /// Pages up to the last that any query sees.
    fn pages(&self) -> usize {
        (self.step.spans[self.item.run].position + self.item.queries.end).div_ceil(PAGE_TOKENS)
    }

    /// Positions of page `page` that query `query` of the run sees, counted from the page's start.
    #[inline(always)]
    fn visible(&self, page: usize, query: usize) -> Range<usize> {
        let position = self.step.spans[self.item.run].position + query;
        let first = self.step.heads.window.map_or(0, |window| (position + 1).saturating_sub(window));
        let start = page * PAGE_TOKENS;
        let clip = |p: usize| p.saturating_sub(start).min(PAGE_TOKENS);
        clip(first)..clip(position + 1)
    }

    /// The queries that see any of page `page`.
    fn seeing(&self, page: usize) -> Range<usize> {
        let Item { run, queries, .. } = self.item;
        let (base, start) = (self.step.spans[*run].position, page * PAGE_TOKENS);
        let past = |window: usize| window.saturating_add(start + PAGE_TOKENS - 1).saturating_sub(base);
        let end = self.step.heads.window.map_or(queries.end, past);
        queries.start.max(start.saturating_sub(base))..queries.end.min(end)
    }

    /// Up to where, from `query` on and before `end`, queries see the same positions of page `page` as it does.
    fn alike(&self, page: usize, query: usize, end: usize) -> usize {
        if self.visible(page, query).len() < PAGE_TOKENS {
            return query + 1;
        }
        let base = self.step.spans[self.item.run].position;
        let past = |window: usize| window.saturating_add(page * PAGE_TOKENS).saturating_sub(base);
        self.step.heads.window.map_or(end, past).min(end)
    }

    /// Adds one page to the rows that see any of it.
    #[inline(always)]
    unsafe fn page<L: Lanes>(&mut self, page: usize) {
        let queries = self.seeing(page);
        if queries.is_empty() {
            return;
        }
        let many = queries.len() * self.step.group() >= WIDEN_ROWS;
        // SAFETY: some query sees the page, so the run has it; widened tiles have the size of what they are made from.
        unsafe {
            let [keys, values] = self.tiles(page);
            if many && size_of::<E>() < size_of::<f32>() {
                widen::<L, E>(keys.data, self.scratch.keys);
                widen::<L, E>(values.data, self.scratch.values);
                let widened = |tile: &[f32]| PageTile { data: tile.as_ptr(), next: None };
                let tiles = [widened(self.scratch.keys), widened(self.scratch.values)];
                self.queries::<L, f32>(page, queries, tiles);
            } else {
                self.queries::<L, E>(page, queries, [keys, values]);
            }
        }
    }

    /// The key and the value tile of `page`, and of the page after it.
    unsafe fn tiles(&self, page: usize) -> [PageTile<E>; 2] {
        let Item { run, head, .. } = *self.item;
        let layer = self.step.layer();
        let next = (page + 1 < self.pages()).then(|| self.step.table.page(run, page + 1));
        let base = self.step.table.page(run, page);
        [layer.key_tile(head), layer.value_tile(head)].map(|offset| PageTile {
            // SAFETY: a tile's offset lies inside every page.
            data: unsafe { base.add(offset) }.cast_const().cast(),
            // SAFETY: as above.
            next: next.map(|next| unsafe { next.add(offset) }.cast_const().cast()),
        })
    }

    /// Adds one page, whose tiles are `tiles`, to the rows of `queries`.
    #[inline(always)]
    unsafe fn queries<L: Lanes, T: Element>(
        &mut self,
        page: usize,
        queries: Range<usize>,
        [keys, values]: [PageTile<T>; 2],
    ) {
        let LayerLayout { head_dim, padded, .. } = *self.step.layer();
        let (group, start) = (self.step.group(), self.item.queries.start);
        let first = (queries.start - start) * group;
        // SAFETY: the queries' rows are rows of the tile; the ranges lie inside the page.
        unsafe {
            let q = self.scratch.q.as_ptr().add(first * head_dim);
            let weights = self.scratch.scores.as_mut_ptr();
            scores::<L, T>((q, queries.len() * group), head_dim, keys, weights.add(first * PAGE_TOKENS));
            let mut query = queries.start;
            while query < queries.end {
                // Queries that see the same positions go together; which do does not change their rows' bits.
                let visible = self.visible(page, query);
                let next = self.alike(page, query, queries.end);
                let rows = (query - start) * group..(next - start) * group;
                rows.clone().for_each(|row| self.soften::<L>(row, &visible));
                let sum = self.scratch.split.values.as_mut_ptr().add(rows.start * padded);
                let weights = (weights.add(rows.start * PAGE_TOKENS).cast_const(), rows.len());
                add_values::<L, T>(weights, visible, (values, padded), sum);
                query = next;
            }
        }
    }

    /// Turns a row's scores into weights, and scales what the row has so far to the new largest score.
    #[inline(always)]
    unsafe fn soften<L: Lanes>(&mut self, row: usize, visible: &Range<usize>) {
        let padded = self.step.layer().padded;
        let scores = &mut self.scratch.scores[row * PAGE_TOKENS..][..PAGE_TOKENS];
        let split = &mut self.scratch.split;
        // SAFETY: `PAGE_TOKENS`, `SUMS` and `padded` are whole registers.
        unsafe {
            if let Some(cap) = self.step.heads.softcap {
                for i in (0..PAGE_TOKENS).step_by(L::N) {
                    let p = scores.as_mut_ptr().add(i);
                    L::load(p).mul(L::splat(1.0 / cap)).tanh().mul(L::splat(cap)).store(p);
                }
            }
            if visible.len() < PAGE_TOKENS {
                // After this no stale or future key has a part in the row, whatever its bits are.
                scores[..visible.start].fill(f32::NEG_INFINITY);
                scores[visible.end..].fill(f32::NEG_INFINITY);
            }
            let mut top = L::splat(f32::NEG_INFINITY);
            for i in 0..PAGE_TOKENS / L::N {
                top = top.max(L::load(scores.as_ptr().add(i * L::N)));
            }
            let old = split.largest[row];
            let new = old.max(top.largest());
            let sums = split.weights.as_mut_ptr().add(row * SUMS);
            let mut sum = L::load(sums);
            if new != old {
                let keep = L::splat(exp::<L>(old - new));
                sum = sum.mul(keep);
                for i in 0..padded / L::N {
                    let p = split.values.as_mut_ptr().add(row * padded + i * L::N);
                    L::load(p).mul(keep).store(p);
                }
                split.largest[row] = new;
            }
            let new = L::splat(new);
            for i in 0..PAGE_TOKENS / L::N {
                let p = scores.as_mut_ptr().add(i * L::N);
                let weight = L::load(p).sub(new).exp();
                weight.store(p);
                sum = sum.add(weight);
            }
            sum.store(sums);
        }
    }
}

#[inline(always)]
unsafe fn widen<L: Lanes, E: Element>(from: *const E, to: &mut [f32]) {
    for i in (0..to.len()).step_by(L::N) {
        // SAFETY: the tile has as many elements as `to`, a multiple of the register.
        unsafe { E::load::<L>(from.add(i)).store(to.as_mut_ptr().add(i)) };
    }
}

/// Divides the sums by the weights, with the sinks counted in, and writes the rows to their places in the output.
pub(super) struct Finish<'a> {
    pub(super) step: &'a Step<'a>,
    pub(super) item: &'a Item,
    /// Later splits, in order, that other tiles have computed.
    pub(super) later: Vec<Partial<'a>>,
    pub(super) total: Partial<'a>,
    /// `[tokens, heads * head_dim]` of the whole step; this tile's part of it is written.
    pub(super) out: *mut f32,
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(mut self) {
        let (heads, padded, group) = (self.step.heads, self.step.layer().padded, self.step.group());
        let first = self.step.spans[self.item.run].start + self.item.queries.start;
        // SAFETY: every row's token and head exist in the output, which no other tile writes there.
        unsafe {
            for later in &self.later {
                self.total.merge::<L>(later);
            }
            for row in 0..self.total.largest.len() {
                let head = self.item.head * group + row % group;
                let weights = L::load(self.total.weights.as_ptr().add(row * SUMS)).sum();
                let mut scale = 1.0 / weights;
                if let Some(sinks) = self.step.sinks {
                    let largest = self.total.largest[row].max(sinks[head]);
                    let keep = exp::<L>(self.total.largest[row] - largest);
                    scale = keep / (weights * keep + exp::<L>(sinks[head] - largest));
                }
                let values = self.total.values.as_ptr().add(row * padded);
                let out = self.out.add(((first + row / group) * heads.heads + head) * heads.head_dim);
                for i in (0..heads.head_dim).step_by(L::N) {
                    let n = heads.head_dim - i;
                    L::load_some(values.add(i), n).mul(L::splat(scale)).store_some(out.add(i), n);
                }
            }
        }
    }
}
