//! Float weights on AVX-512: `f32`, `f16` and `bf16`, widened in registers, and `bf16` pairs.
//!
//! All are rows of double words: one element each, or a pair of `bf16`. Lane `l` of a dot product takes double words
//! `l, l + 16, …` in order. For few rows of activations a register holds 16 double words of one row; for many, weight
//! rows are packed into a panel in which a register holds one double word of 16 rows, as in `panel.rs`.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::chains::{Chains, folds_after};
use super::super::input::{Input, Line};
use super::super::task::Task;
use super::turn::transpose;
use super::{AHEAD, reduce, store};

/// Weight rows in a panel.
pub(super) const ROWS: usize = 32;
/// Activation rows in a tile.
pub(super) const TILE: usize = 12;

/// Unused lines after each chain of a panel.
const GAP: usize = 1;

/// A double word of each row of a panel.
type Lines = [Line; 2];

/// A double word of each row of a tile.
type TileLine = [u32; TILE];

/// A way to read and multiply float weights.
pub(super) trait Lanes {
    /// Stored bytes of 16 double words.
    const BYTES: usize;
    /// Elements in a double word.
    const ELEMENTS: usize;

    /// 16 double words from [`Self::BYTES`] bytes.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn widen(bytes: &[u8]) -> __m512i;

    /// `sum + w * x`.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn multiply_add(sum: __m512, w: __m512i, x: __m512i) -> __m512;

    /// Row `m` of the input.
    fn row<'a>(x: &'a Input<'_>, m: usize) -> &'a [u32];
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct Bf16Pairs;

/// Row `m` of the input as it is.
fn plain_row<'a>(x: &'a Input<'_>, m: usize) -> &'a [u32] {
    bytemuck::cast_slice(x.row(m))
}

impl Lanes for F32 {
    const BYTES: usize = 64;
    const ELEMENTS: usize = 1;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..64];
        // SAFETY: the slice has 64 bytes.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn multiply_add(sum: __m512, w: __m512i, x: __m512i) -> __m512 {
        _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum)
    }

    fn row<'a>(x: &'a Input<'_>, m: usize) -> &'a [u32] {
        plain_row(x, m)
    }
}

impl Lanes for F16 {
    const BYTES: usize = 32;
    const ELEMENTS: usize = 1;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..32];
        // SAFETY: the slice has 32 bytes.
        _mm512_castps_si512(_mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn multiply_add(sum: __m512, w: __m512i, x: __m512i) -> __m512 {
        _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum)
    }

    fn row<'a>(x: &'a Input<'_>, m: usize) -> &'a [u32] {
        plain_row(x, m)
    }
}

impl Lanes for Bf16 {
    const BYTES: usize = 32;
    const ELEMENTS: usize = 1;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..32];
        // SAFETY: the slice has 32 bytes.
        let words = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
        _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn multiply_add(sum: __m512, w: __m512i, x: __m512i) -> __m512 {
        _mm512_fmadd_ps(_mm512_castsi512_ps(w), _mm512_castsi512_ps(x), sum)
    }

    fn row<'a>(x: &'a Input<'_>, m: usize) -> &'a [u32] {
        plain_row(x, m)
    }
}

impl Lanes for Bf16Pairs {
    const BYTES: usize = 64;
    const ELEMENTS: usize = 2;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> __m512i {
        let bytes = &bytes[..64];
        // SAFETY: the slice has 64 bytes.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn multiply_add(mut sum: __m512, w: __m512i, x: __m512i) -> __m512 {
        // In assembly, because the intrinsic could not be inlined into kernels that are shared with processors that
        // lack the instruction.
        // SAFETY: these lanes are only used where AVX512_BF16 has been detected; registers only.
        unsafe {
            std::arch::asm!(
                "vdpbf16ps {sum}, {w}, {x}",
                sum = inout(zmm_reg) sum, w = in(zmm_reg) w, x = in(zmm_reg) x,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        sum
    }

    fn row<'a>(x: &'a Input<'_>, m: usize) -> &'a [u32] {
        x.pairs().row(m)
    }
}

/// Dot products of `R` stored rows with `M` rows of activations.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dot<L: Lanes, const R: usize, const M: usize>(rows: [&[u8]; R], x: [&[u32]; M]) -> [[f32; M]; R] {
    let mut lanes = [[_mm512_setzero_ps(); M]; R];
    let whole = rows[0].len() / L::BYTES;
    for i in 0..whole {
        let w = rows.map(|row| {
            let chunk = &row[i * L::BYTES..][..L::BYTES];
            // Any address will do: a prefetch never faults.
            _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
            // SAFETY: this function has the features.
            unsafe { L::widen(chunk) }
        });
        for m in 0..M {
            let x = &x[m][i * 16..][..16];
            // SAFETY: the slice has 64 bytes.
            let x = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
            for r in 0..R {
                // SAFETY: this function has the features.
                lanes[r][m] = unsafe { L::multiply_add(lanes[r][m], w[r], x) };
            }
        }
    }
    if rows[0].len() > whole * L::BYTES {
        let w = rows.map(|row| {
            let mut padded = [0; 64];
            padded[..row.len() - whole * L::BYTES].copy_from_slice(&row[whole * L::BYTES..]);
            // SAFETY: this function has the features.
            unsafe { L::widen(&padded) }
        });
        for m in 0..M {
            let x = &x[m][whole * 16..];
            // SAFETY: the mask leaves out what is beyond the slice.
            let x = unsafe { _mm512_maskz_loadu_epi32(u16::MAX >> (16 - x.len()), x.as_ptr().cast()) };
            for r in 0..R {
                // SAFETY: this function has the features.
                lanes[r][m] = unsafe { L::multiply_add(lanes[r][m], w[r], x) };
            }
        }
    }
    lanes.map(|lanes| lanes.map(|lanes| reduce(lanes)))
}

/// All chosen rows of the input against rows `rows` of the weights.
///
/// # Safety
/// The processor has the features; `out` may be written at every chosen row and each of `rows`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run_dot<L: Lanes>(task: &Task<'_>, rows: Range<usize>, x: &Input<'_>) {
    let count = task.select.len();
    for first in (0..count).step_by(4) {
        match count - first {
            1 => dot_rows::<L, 1>(task, rows.clone(), first, x),
            2 => dot_rows::<L, 2>(task, rows.clone(), first, x),
            _ => dot_rows::<L, 4>(task, rows.clone(), first, x),
        }
    }
}

/// Chosen rows `first ..`, `M` of them or as many as there are, against rows `rows` of the weights.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn dot_rows<L: Lanes, const M: usize>(task: &Task<'_>, rows: Range<usize>, first: usize, x: &Input<'_>) {
    let count = (task.select.len() - first).min(M);
    // Fewer rows than lanes of work: the last stands in for those that are missing, its results are dropped.
    let x = std::array::from_fn(|i| L::row(x, task.select.row(first + i.min(count - 1))));
    let put = |row: usize, values: &[f32; M]| {
        for (i, value) in values.iter().enumerate().take(count) {
            // SAFETY: the promise of `run_dot`'s caller.
            unsafe { task.out.put(first + i, row, *value) };
        }
    };
    let weight = task.weight;
    let mut row = rows.start;
    while row + 1 < rows.end {
        let [a, b] = dot::<L, 2, M>([weight.row(row), weight.row(row + 1)], x);
        put(row, &a);
        put(row + 1, &b);
        row += 2;
    }
    if row < rows.end {
        let [a] = dot::<L, 1, M>([weight.row(row)], x);
        put(row, &a);
    }
}

/// Words of a tile.
pub(super) fn tile_words<L: Lanes>(cols: usize) -> usize {
    cols.div_ceil(L::ELEMENTS) * TILE
}

/// Words of a panel.
pub(super) fn panel_words<L: Lanes>(cols: usize) -> usize {
    (cols.div_ceil(L::ELEMENTS) + 16 * GAP) * ROWS
}

/// Packs chosen rows `first ..` of the input as a tile; missing rows are copies of the last and are not read back.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn pack_tile<L: Lanes>(x: &Input<'_>, task: &Task<'_>, first: usize, tile: &mut [u32]) {
    let tile: &mut [TileLine] = bytemuck::cast_slice_mut(tile);
    let chains = Chains::new(tile.len());
    let last = task.select.len() - 1;
    let rows: [&[u32]; TILE] = std::array::from_fn(|m| L::row(x, task.select.row((first + m).min(last))));
    for start in (0..tile.len()).step_by(16) {
        let count = (tile.len() - start).min(16);
        let mask = u16::MAX >> (16 - count);
        let columns = transpose(|r| match rows.get(r) {
            // SAFETY: the mask leaves out what is beyond the row.
            Some(row) => unsafe { _mm512_maskz_loadu_epi32(mask, row[start..].as_ptr().cast()) },
            None => _mm512_setzero_si512(),
        });
        for (i, column) in columns.into_iter().enumerate().take(count) {
            let to = &mut tile[chains.position(start + i)];
            // SAFETY: a line of the tile has as many words as the mask has ones.
            unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), u16::MAX >> (16 - TILE), column) };
        }
    }
}

/// Widens 32 rows of `len` double words, from `first` on, into a panel. Rows beyond the last are copies of the last.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_panel<L: Lanes>(task: &Task<'_>, first: usize, chains: &Chains, panel: &mut [Lines]) {
    let weight = task.weight;
    let len = weight.cols().div_ceil(L::ELEMENTS);
    for half in 0..2 {
        let rows: [&[u8]; 16] =
            std::array::from_fn(|r| weight.row((first + 16 * half + r).min(weight.rows() - 1)));
        for start in (0..len).step_by(16) {
            let at = start / 16 * L::BYTES;
            let count = (len - start).min(16);
            let columns = if at + L::BYTES <= rows[0].len() {
                // SAFETY: this function has the features.
                transpose(|r| unsafe { L::widen(&rows[r][at..]) })
            } else {
                transpose(|r| {
                    let mut padded = [0; 64];
                    padded[..rows[r].len() - at].copy_from_slice(&rows[r][at..]);
                    // SAFETY: this function has the features.
                    unsafe { L::widen(&padded) }
                })
            };
            for (i, column) in columns.into_iter().enumerate().take(count) {
                store(&mut panel[chains.position(start + i)][half], column);
            }
        }
    }
}

/// A panel times the first `M` rows of a tile: 32 outputs for each.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn multiply<L: Lanes, const M: usize>(
    panel: &[Lines],
    tile: &[TileLine],
    chains: &Chains,
) -> [[__m512; 2]; M] {
    let mut partial = [[[_mm512_setzero_ps(); 2]; M]; 5];
    let mut kept = 0;
    let (mut panel_at, mut tile_at) = (0, 0);
    for (chain, length) in chains.lengths().into_iter().enumerate() {
        let mut lanes = [[_mm512_setzero_ps(); 2]; M];
        for (w, x) in panel[panel_at..panel_at + length].iter().zip(&tile[tile_at..tile_at + length]) {
            // SAFETY: a line has twice 64 bytes.
            let w = w.each_ref().map(|w| unsafe { _mm512_loadu_si512(w.as_ptr().cast()) });
            for m in 0..M {
                let x = _mm512_set1_epi32(x[m] as i32);
                for h in 0..2 {
                    // SAFETY: this function has the features.
                    lanes[m][h] = unsafe { L::multiply_add(lanes[m][h], w[h], x) };
                }
            }
        }
        panel_at += length + chains.gap();
        tile_at += length;
        for _ in 0..folds_after(chain) {
            kept -= 1;
            for m in 0..M {
                for h in 0..2 {
                    lanes[m][h] = _mm512_add_ps(partial[kept][m][h], lanes[m][h]);
                }
            }
        }
        partial[kept] = lanes;
        kept += 1;
    }
    partial[0]
}

/// Rows `first .. first + 32` of the weights against all tiles.
///
/// # Safety
/// The processor has the features; `out` may be written at every chosen row and those columns.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run_panel<L: Lanes>(task: &Task<'_>, first: usize, tiles: &[u32], panel: &mut [u32]) {
    let (tiles, panel): (&[TileLine], &mut [Lines]) =
        (bytemuck::cast_slice(tiles), bytemuck::cast_slice_mut(panel));
    let len = task.weight.cols().div_ceil(L::ELEMENTS);
    let chains = Chains::with_gap(len, GAP);
    pack_panel::<L>(task, first, &chains, panel);
    let rows = ROWS.min(task.weight.rows() - first);
    let mask = u32::MAX >> (ROWS - rows);
    for (t, tile) in tiles.chunks_exact(len).enumerate() {
        let put = |j: usize, value: [__m512; 2]| {
            for (h, value) in value.into_iter().enumerate() {
                let to = task.out.at(t * TILE + j, first + 16 * h);
                // SAFETY: the caller's; the mask leaves out columns beyond the last.
                unsafe { _mm512_mask_storeu_ps(to, (mask >> (16 * h)) as u16, value) };
            }
        };
        match task.select.len() - t * TILE {
            count @ 1..=4 => {
                let values = multiply::<L, 4>(panel, tile, &chains);
                values[..count].iter().enumerate().for_each(|(j, v)| put(j, *v));
            }
            count => {
                let values = multiply::<L, TILE>(panel, tile, &chains);
                values[..TILE.min(count)].iter().enumerate().for_each(|(j, v)| put(j, *v));
            }
        }
    }
}
