//! Attention over pages: which thread computes what.
//!
//! A tile is some queries of one run with all query heads of one KV head, so each key and value is read once for the
//! whole group. Many queries (a prompt) make many tiles; few queries over a long sequence (decoding) are cut along the
//! sequence instead, so that all threads have work. Where the cuts lie never shows in the result: see [`tile`].

mod append;
mod micro;
#[cfg(test)]
mod tests;
mod tile;

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use half::f16;

use self::append::Append;
use self::tile::{Finish, Item, Partial, SPLIT_PAGES, Scratch, Tile};
use super::Cpu;
use super::norm::NormWeights;
use super::pages::{LayerLayout, PAGE_TOKENS, PageTable};
use super::pool::SendPtr;
use super::rope::Rotation;
use super::simd::Element;
use crate::attention::Heads;
use perch_engine::batch::Span;

/// Rows of a tile at most, unless one query's group alone has more: queries, scores and sums stay in the L2 cache.
const ROWS: usize = 64;

/// Tokens in a split.
const SPLIT_TOKENS: usize = SPLIT_PAGES * PAGE_TOKENS;

/// One attention layer for the new tokens of a step.
#[derive(Clone, Copy)]
pub(crate) struct Step<'a> {
    /// Sizes and masks.
    pub(crate) heads: &'a Heads,
    /// Index of the layer.
    pub(crate) layer: usize,
    /// Norm on each query head.
    pub(crate) q_norm: Option<&'a NormWeights>,
    /// Norm on each key head.
    pub(crate) k_norm: Option<&'a NormWeights>,
    /// Rotation of queries and keys.
    pub(crate) rotation: Option<Rotation<'a>>,
    /// A logit per head that takes part in the softmax.
    pub(crate) sinks: Option<&'a [f32]>,
    /// The runs' pages.
    pub(crate) table: &'a PageTable<'a>,
    /// The runs.
    pub(crate) spans: &'a [Span],
    /// `[tokens, heads * head_dim]`.
    pub(crate) q: &'a [f32],
    /// `[tokens, kv_heads * head_dim]`.
    pub(crate) k: &'a [f32],
    /// `[tokens, kv_heads * head_dim]`.
    pub(crate) v: &'a [f32],
}

impl<'a> Step<'a> {
    fn layer(&self) -> &'a LayerLayout {
        &self.table.layout().layers[self.layer]
    }

    fn group(&self) -> usize {
        self.heads.heads / self.heads.kv_heads
    }
}

thread_local! {
    /// A thread's memory for tiles. It grows to the largest tile of the models it serves, some hundred kB.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `floats` floats of the thread's scratch memory.
fn with_scratch<R>(floats: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    SCRATCH.with_borrow_mut(|memory| {
        if memory.len() < floats {
            memory.resize(floats, 0.0);
        }
        f(&mut memory[..floats])
    })
}

/// Appends the step's keys and values to its runs' pages and attends to all positions each token sees.
/// `out` is `[tokens, heads * head_dim]`.
pub(crate) fn attend(cpu: &Cpu, step: &Step<'_>, out: &mut [f32]) {
    match step.table.layout().element {
        2 => attend_as::<f16>(cpu, step, out),
        _ => attend_as::<f32>(cpu, step, out),
    }
}

fn attend_as<E: Element>(cpu: &Cpu, step: &Step<'_>, out: &mut [f32]) {
    check(step, out);
    let items = plan(step, cpu.pool.threads());
    append_shared::<E>(cpu, step, &items);
    let out = SendPtr(out.as_mut_ptr());
    if items.iter().any(|item| item.splits != splits_of(step, item.run, &item.queries)) {
        return attend_splits::<E>(cpu, step, &items, &out);
    }
    cpu.pool.run(items.len(), |i| {
        let item = &items[i];
        let (rows, layer) = (item.queries.len() * step.group(), step.layer());
        let floats = Scratch::floats(rows, layer);
        with_scratch(floats + Partial::floats(rows, layer.padded), |memory| {
            let (memory, total) = memory.split_at_mut(floats);
            compute::<E>(cpu, step, item, (&mut *memory, &mut *total));
            let total = Partial::new(total, rows);
            cpu.width.run(Finish { step, item, later: Vec::new(), total, out: out.get() });
        });
    });
}

/// Few queries over long sequences: one tile for each split, then a merge for each query and head.
fn attend_splits<E: Element>(cpu: &Cpu, step: &Step<'_>, items: &[Item], out: &SendPtr<f32>) {
    let (layer, group) = (step.layer(), step.group());
    let mut offsets = vec![0];
    for item in items {
        let floats = Partial::floats(item.queries.len() * group, layer.padded);
        offsets.push(offsets[offsets.len() - 1] + floats);
    }
    let mut partials = vec![0.0; offsets[items.len()]];
    let shared = SendPtr(partials.as_mut_ptr());
    cpu.pool.run(items.len(), |i| {
        let rows = items[i].queries.len() * group;
        // SAFETY: items have disjoint ranges of the partials.
        let total = unsafe {
            std::slice::from_raw_parts_mut(shared.get().add(offsets[i]), offsets[i + 1] - offsets[i])
        };
        with_scratch(Scratch::floats(rows, layer), |memory| {
            compute::<E>(cpu, step, &items[i], (memory, total));
        });
    });
    // Items of one run, head and tile follow one another, splits ascending.
    let same = |a: &Item, b: &Item| a.run == b.run && a.head == b.head && a.queries == b.queries;
    let mut pieces = partials.as_mut_slice();
    for items in items.chunk_by(same) {
        let rows = items[0].queries.len() * group;
        let (mine, rest) = pieces.split_at_mut(items.len() * Partial::floats(rows, layer.padded));
        pieces = rest;
        let mut partials =
            mine.chunks_exact_mut(Partial::floats(rows, layer.padded)).map(|p| Partial::new(p, rows));
        let Some(total) = partials.next() else { continue };
        cpu.width.run(Finish { step, item: &items[0], later: partials.collect(), total, out: out.get() });
    }
}

fn compute<E: Element>(cpu: &Cpu, step: &Step<'_>, item: &Item, (memory, total): (&mut [f32], &mut [f32])) {
    let rows = item.queries.len() * step.group();
    if item.append {
        append::<E>(cpu, step, (item.run, item.head, item.queries.clone()), memory);
    }
    let scratch = Scratch::new(memory, rows, step.layer());
    let total = Partial::new(total, rows);
    cpu.width.run(Tile::<E> { step, item, scratch, total, element: PhantomData });
}

/// Cuts the step into tiles, the longest first.
fn plan(step: &Step<'_>, threads: usize) -> Vec<Item> {
    let queries = (ROWS / step.group()).max(1);
    let mut items = Vec::new();
    for (run, span) in step.spans.iter().enumerate() {
        for start in (0..span.len).step_by(queries).rev() {
            let queries = start..span.len.min(start + queries);
            let splits = splits_of(step, run, &queries);
            for head in 0..step.heads.kv_heads {
                let append = span.len == queries.len();
                items.push(Item { run, head, queries: queries.clone(), splits: splits.clone(), append });
            }
        }
    }
    let too_few = threads > 1 && items.len() < 2 * threads;
    if too_few && items.iter().all(|item| item.append) && items.iter().any(|item| item.splits.len() > 1) {
        let cut = |item: Item| {
            let split = |split| Item { splits: split..split + 1, append: false, ..item.clone() };
            item.splits.clone().map(split).collect::<Vec<_>>()
        };
        return items.into_iter().flat_map(cut).collect();
    }
    items.sort_by_key(|item| std::cmp::Reverse(item.queries.len() * item.splits.len()));
    items
}

/// Appends what several tiles will read, in a region of its own.
fn append_shared<E: Element>(cpu: &Cpu, step: &Step<'_>, items: &[Item]) {
    let mut shared = vec![true; step.spans.len()];
    items.iter().filter(|item| item.append).for_each(|item| shared[item.run] = false);
    let mut parts = Vec::new();
    for (run, span) in step.spans.iter().enumerate().filter(|(run, _)| shared[*run]) {
        let mut start = 0;
        while start < span.len {
            // Tokens of one page go together: two threads never write to one cache line of keys.
            let end = (start + PAGE_TOKENS - (span.position + start) % PAGE_TOKENS).min(span.len);
            parts.extend((0..step.heads.kv_heads).map(|head| (run, head, start..end)));
            start = end;
        }
    }
    cpu.pool.run(parts.len(), |i| {
        with_scratch(2 * step.heads.head_dim, |memory| append::<E>(cpu, step, parts[i].clone(), memory));
    });
}

fn append<E: Element>(
    cpu: &Cpu,
    step: &Step<'_>,
    (run, head, tokens): (usize, usize, Range<usize>),
    memory: &mut [f32],
) {
    let buffer = &mut memory[..2 * step.heads.head_dim];
    cpu.width.run(Append::<E> { step, run, head, tokens, buffer, element: PhantomData });
}

/// The splits that hold some position which `queries` of run `run` see.
fn splits_of(step: &Step<'_>, run: usize, queries: &Range<usize>) -> Range<usize> {
    let first = step.spans[run].position + queries.start + 1;
    let first = step.heads.window.map_or(0, |window| first.saturating_sub(window));
    first / SPLIT_TOKENS..(step.spans[run].position + queries.end - 1) / SPLIT_TOKENS + 1
}

/// What the kernels' raw reads rely on.
fn check(step: &Step<'_>, out: &[f32]) {
    let Heads { heads, kv_heads, head_dim, .. } = *step.heads;
    let layer = step.layer();
    let tokens = step.spans.iter().map(|span| span.start + span.len).max().unwrap_or(0);
    assert!(
        layer.kv_heads == kv_heads && layer.head_dim == head_dim,
        "the pages were laid out for another model"
    );
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "query heads come in whole groups");
    assert!(step.q.len() == tokens * heads * head_dim && out.len() == step.q.len(), "queries and output");
    assert!(step.k.len() == tokens * kv_heads * head_dim && step.v.len() == step.k.len(), "keys and values");
    assert!(
        [step.q_norm, step.k_norm].into_iter().flatten().all(|norm| norm.weight.len() == head_dim),
        "head norms"
    );
    assert!(step.sinks.is_none_or(|sinks| sinks.len() == heads), "one sink for each head");
    if let Some(Rotation { cos, sin, half, .. }) = step.rotation {
        assert!(2 * half <= head_dim && cos.len() == tokens * half && sin.len() == cos.len(), "rotation");
    }
}
