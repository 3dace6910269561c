//! The two register tiles of attention: scores of a page, and the weighted sum of its values.
//!
//! Each output is one chain of fused multiply-adds in a fixed order (over the head's elements for a score, over
//! ascending positions for a sum), so its bits do not depend on how many rows share the tile.

use super::super::pages::PAGE_TOKENS;
use super::super::simd::{Element, Lanes};

/// `out[r][j] = q[r] · key j` for the page's keys, `rows` rows of `q` with `head_dim` elements; `out` rows have
/// [`PAGE_TOKENS`] elements.
///
/// # Safety
/// The three pointers have that many elements behind them, and `keys` a whole tile.
#[inline(always)]
pub(super) unsafe fn scores<L: Lanes, E: Element>(
    (q, rows): (*const f32, usize),
    head_dim: usize,
    keys: *const E,
    out: *mut f32,
) {
    let mut r = 0;
    while r < rows {
        // SAFETY: rows `r .. r + R` exist.
        unsafe {
            let (q, out) = (q.add(r * head_dim), out.add(r * PAGE_TOKENS));
            r += match rows - r {
                8.. if L::TILE_ROWS >= 8 => score_tile::<L, E, 8>(q, head_dim, keys, out),
                4.. if L::TILE_ROWS >= 4 => score_tile::<L, E, 4>(q, head_dim, keys, out),
                2.. if L::TILE_ROWS >= 2 => score_tile::<L, E, 2>(q, head_dim, keys, out),
                _ => score_tile::<L, E, 1>(q, head_dim, keys, out),
            };
        }
    }
}

#[inline(always)]
unsafe fn score_tile<L: Lanes, E: Element, const R: usize>(
    q: *const f32,
    head_dim: usize,
    keys: *const E,
    out: *mut f32,
) -> usize {
    // SAFETY: the caller's promise: `R` rows of `q` and `out`, and `head_dim * PAGE_TOKENS` keys.
    unsafe {
        let zero = L::splat(0.0);
        let registers = PAGE_TOKENS / L::N;
        let mut sums = [[zero; 4]; R];
        for d in 0..head_dim {
            let mut key = [zero; 4];
            for (i, key) in key.iter_mut().enumerate().take(registers) {
                *key = E::load::<L>(keys.add(d * PAGE_TOKENS + i * L::N));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let q = L::splat(*q.add(r * head_dim + d));
                for i in 0..registers {
                    sums[i] = sums[i].fma(q, key[i]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate().take(registers) {
                sum.store(out.add(r * PAGE_TOKENS + i * L::N));
            }
        }
    }
    R
}

/// `sum[r] += Σ weights[r][j] * value j` over positions `range` of the page, for `rows` rows; `weights` rows have
/// [`PAGE_TOKENS`] elements, `values` and `sum` rows `padded`.
///
/// # Safety
/// The pointers have that many elements behind them; `range` ends within the page; `padded` is a multiple of 16.
#[inline(always)]
pub(super) unsafe fn add_values<L: Lanes, E: Element>(
    (weights, rows): (*const f32, usize),
    range: std::ops::Range<usize>,
    (values, padded): (*const E, usize),
    sum: *mut f32,
) {
    let mut r = 0;
    while r < rows {
        // SAFETY: rows `r .. r + R` exist.
        unsafe {
            let tile = Values { weights: weights.add(r * PAGE_TOKENS), range: range.clone(), values, padded };
            let sum = sum.add(r * padded);
            r += match rows - r {
                8.. if L::TILE_ROWS >= 8 => tile.rows::<L, 8>(sum),
                4.. if L::TILE_ROWS >= 4 => tile.rows::<L, 4>(sum),
                2.. if L::TILE_ROWS >= 2 => tile.rows::<L, 2>(sum),
                _ => tile.rows::<L, 1>(sum),
            };
        }
    }
}

struct Values<E> {
    weights: *const f32,
    range: std::ops::Range<usize>,
    values: *const E,
    padded: usize,
}

impl<E: Element> Values<E> {
    /// All columns of `R` rows, as many registers at once as there are for sums.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const R: usize>(&self, sum: *mut f32) -> usize {
        let wide = 2 * L::TILE_ROWS / R;
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
            let mut sums = [[L::splat(0.0); C]; R];
            for (r, sums) in sums.iter_mut().enumerate() {
                for (c, register) in sums.iter_mut().enumerate() {
                    *register = L::load(sum.add(r * self.padded + column + c * L::N));
                }
            }
            for j in self.range.clone() {
                let mut value = [L::splat(0.0); C];
                for (c, value) in value.iter_mut().enumerate() {
                    *value = E::load::<L>(self.values.add(j * self.padded + column + c * L::N));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = L::splat(*self.weights.add(r * PAGE_TOKENS + j));
                    for (register, value) in sums.iter_mut().zip(&value) {
                        *register = register.fma(weight, *value);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (c, register) in sums.iter().enumerate() {
                    register.store(sum.add(r * self.padded + column + c * L::N));
                }
            }
        }
        C
    }
}
