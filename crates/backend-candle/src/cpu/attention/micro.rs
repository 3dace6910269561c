//! The two register tiles of attention: scores of a page, and the weighted sum of its values.
//!
//! Each output has one order of fused multiply-adds: a score is a chain over the even elements of the head plus a chain
//! over the odd ones, a sum runs over ascending positions. So its bits do not depend on how many rows share the tile.

// Loops over registers run over indices with constant bounds: iterators keep the sums in memory.
#![allow(clippy::needless_range_loop)]

use std::ops::Range;

use super::super::pages::PAGE_TOKENS;
use super::super::simd::{Element, Lanes};

/// A page's tile, and the tile that will be read after it.
#[derive(Clone, Copy)]
pub(super) struct PageTile<E> {
    /// The elements.
    pub(super) data: *const E,
    /// Fetched into the cache meanwhile, if decoding: the time to read a long sequence is the time to decode a token.
    pub(super) next: Option<*const E>,
}

impl<E: Element> PageTile<E> {
    /// Asks for the part of the next tile that lies where the part `at ..` of this one does, `len` elements.
    #[inline(always)]
    unsafe fn prefetch<L: Lanes>(&self, at: usize, len: usize) {
        const LINE: usize = 64;
        if let Some(next) = self.next {
            for line in (0..len * size_of::<E>()).step_by(LINE) {
                // SAFETY: prefetching reads nothing; the address lies in the next tile.
                unsafe { L::prefetch(next.add(at).cast::<u8>().add(line)) };
            }
        }
    }
}

/// `out[r][j] = q[r] · key j` for the page's keys, `rows` rows of `q` with `head_dim` elements; `out` rows have
/// [`PAGE_TOKENS`] elements.
///
/// # Safety
/// The pointers have that many elements behind them, and `keys` a whole tile.
#[inline(always)]
pub(super) unsafe fn scores<L: Lanes, E: Element>(
    (q, rows): (*const f32, usize),
    head_dim: usize,
    keys: PageTile<E>,
    out: *mut f32,
) {
    let mut r = 0;
    while r < rows {
        // SAFETY: rows `r .. r + R` exist.
        unsafe {
            let (q, out) = (q.add(r * head_dim), out.add(r * PAGE_TOKENS));
            r += match rows - r {
                4.. if L::TILE_ROWS >= 4 => score_rows::<L, E, 4>(q, head_dim, keys, out),
                2.. if L::TILE_ROWS >= 2 => score_rows::<L, E, 2>(q, head_dim, keys, out),
                _ => score_rows::<L, E, 1>(q, head_dim, keys, out),
            };
        }
    }
}

/// `R` rows, two registers of keys at a time.
#[inline(always)]
unsafe fn score_rows<L: Lanes, E: Element, const R: usize>(
    q: *const f32,
    head_dim: usize,
    keys: PageTile<E>,
    out: *mut f32,
) -> usize {
    for column in (0..PAGE_TOKENS).step_by(2 * L::N) {
        // SAFETY: the caller's promise: `R` rows of `q` and `out`, and `head_dim` rows of keys.
        unsafe {
            let mut even = [[L::splat(0.0); 2]; R];
            let mut odd = [[L::splat(0.0); 2]; R];
            for pair in 0..head_dim / 2 {
                let d = 2 * pair;
                keys.prefetch::<L>(d * PAGE_TOKENS + column, 2 * PAGE_TOKENS);
                multiply::<L, E, R>(&mut even, q.add(d), head_dim, keys.data.add(d * PAGE_TOKENS + column));
                multiply::<L, E, R>(
                    &mut odd,
                    q.add(d + 1),
                    head_dim,
                    keys.data.add((d + 1) * PAGE_TOKENS + column),
                );
            }
            if head_dim % 2 == 1 {
                let d = head_dim - 1;
                multiply::<L, E, R>(&mut even, q.add(d), head_dim, keys.data.add(d * PAGE_TOKENS + column));
            }
            for r in 0..R {
                for i in 0..2 {
                    even[r][i].add(odd[r][i]).store(out.add(r * PAGE_TOKENS + column + i * L::N));
                }
            }
        }
    }
    R
}

/// Adds one element of the head: `sums[r] += q[r] * keys` for `R` rows of `q`, `stride` apart.
#[inline(always)]
unsafe fn multiply<L: Lanes, E: Element, const R: usize>(
    sums: &mut [[L; 2]; R],
    q: *const f32,
    stride: usize,
    keys: *const E,
) {
    // SAFETY: the caller's promise: `R` rows, two registers of keys.
    unsafe {
        let keys = [E::load::<L>(keys), E::load::<L>(keys.add(L::N))];
        for r in 0..R {
            let q = L::splat(*q.add(r * stride));
            for i in 0..2 {
                sums[r][i] = sums[r][i].fma(q, keys[i]);
            }
        }
    }
}

/// `sum[r] += Σ weights[r][j] * value j` over positions `range` of the page, for `rows` rows; `weights` rows have
/// [`PAGE_TOKENS`] elements, `values` and `sum` rows `padded`.
///
/// # Safety
/// The pointers have that many elements behind them; `range` ends within the page; `padded` is a multiple of 16.
#[inline(always)]
pub(super) unsafe fn add_values<L: Lanes, E: Element>(
    (weights, rows): (*const f32, usize),
    range: Range<usize>,
    (values, padded): (PageTile<E>, usize),
    sum: *mut f32,
) {
    let mut r = 0;
    while r < rows {
        // SAFETY: rows `r .. r + R` exist.
        unsafe {
            let tile = Values { weights: weights.add(r * PAGE_TOKENS), range: range.clone(), values, padded };
            let sum = sum.add(r * padded);
            r += match rows - r {
                4.. if L::TILE_ROWS >= 4 => tile.rows::<L, 4>(sum),
                2.. if L::TILE_ROWS >= 2 => tile.rows::<L, 2>(sum),
                _ => tile.rows::<L, 1>(sum),
            };
        }
    }
}

struct Values<E> {
    weights: *const f32,
    range: Range<usize>,
    values: PageTile<E>,
    padded: usize,
}

impl<E: Element> Values<E> {
    /// All columns of `R` rows, as many registers at once as there are for sums.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize>(&self, sum: *mut f32) -> usize {
        let wide = 4 * L::TILE_ROWS / R;
        let mut column = 0;
        while column < self.padded {
            // SAFETY: columns `column .. column + C * N` exist.
            unsafe {
                column += L::N
                    * match (self.padded - column) / L::N {
                        8.. if wide >= 8 => self.tile::<L, R, 8>(column, sum),
                        4.. if wide >= 4 => self.tile::<L, R, 4>(column, sum),
                        2.. if wide >= 2 => self.tile::<L, R, 2>(column, sum),
                        _ => self.tile::<L, R, 1>(column, sum),
                    };
            }
        }
        R
    }

    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const C: usize>(&self, column: usize, sum: *mut f32) -> usize {
        // SAFETY: the caller's promise: `R` rows and `C` registers of columns.
        unsafe {
            let sum = sum.add(column);
            let mut sums = [[L::splat(0.0); C]; R];
            for r in 0..R {
                for c in 0..C {
                    sums[r][c] = L::load(sum.add(r * self.padded + c * L::N));
                }
            }
            for j in self.range.clone() {
                let at = j * self.padded + column;
                self.values.prefetch::<L>(at, C * L::N);
                let mut value = [L::splat(0.0); C];
                for c in 0..C {
                    value[c] = E::load::<L>(self.values.data.add(at + c * L::N));
                }
                for r in 0..R {
                    let weight = L::splat(*self.weights.add(r * PAGE_TOKENS + j));
                    for c in 0..C {
                        sums[r][c] = sums[r][c].fma(weight, value[c]);
                    }
                }
            }
            for r in 0..R {
                for c in 0..C {
                    sums[r][c].store(sum.add(r * self.padded + c * L::N));
                }
            }
        }
        C
    }
}
