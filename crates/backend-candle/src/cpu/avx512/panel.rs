//! Many rows of activations against quantised weights: prefill and large batches.
//!
//! Sixteen weight rows are unpacked once into a panel of bytes in which a register holds four weights of each row, so
//! that one instruction multiplies four activations (broadcast) with sixteen rows, and sums never leave their lane. Tiles
//! of eight activation rows then run over the panel, which stays in the cache. Lanes run one after another
//! ([`Chains`]), so a tile needs eight integer and eight float sums, and the result is `portable.rs`'s bit for bit.

use std::arch::x86_64::*;

use super::super::block::BLOCK;
use super::super::chains::{Chains, folds_after};
use super::super::input::{GROUP, Group, Input, Line};
use super::super::task::Task;
use super::formats::Format;
use super::turn::transpose;
use super::{MAX_GROUP_BYTES, load, store};

/// Weight rows in a panel.
pub(super) const ROWS: usize = 16;
/// Activation rows in a tile.
pub(super) const TILE: usize = 8;

/// One block of a tile of activations; a line is two words of each row. Four lines of integers, four to a word; scales
/// and scaled sums; sums of the halves (two `i16`) and minus the sum of the block.
type TileBlock = [Line; 6];

/// Lines of a block in a panel: eight of weights, then the factors.
const fn lines<F: Format>() -> usize {
    let form = F::FORM;
    9 + form.min as usize + form.sub as usize + form.sub_min as usize
}

/// Words of a panel.
pub(super) fn panel_words<F: Format>(cols: usize) -> usize {
    cols / BLOCK * lines::<F>() * 16
}

/// Words of a tile.
pub(super) fn tile_words(cols: usize) -> usize {
    cols / BLOCK * size_of::<TileBlock>() / 4
}

/// Packs chosen rows `first ..` of the input as a tile; missing rows are copies of the last and are not read back.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn pack_tile(x: &Input<'_>, task: &Task<'_>, first: usize, tile: &mut [u32]) {
    let tile: &mut [TileBlock] = bytemuck::cast_slice_mut(tile);
    let chains = Chains::new(tile.len());
    let last = task.select.len() - 1;
    let rows: [&[Group]; TILE] =
        std::array::from_fn(|m| x.quantised().row(task.select.row((first + m).min(last))));
    for g in 0..tile.len().div_ceil(GROUP) {
        // A lane of the input is a block; two lines of eight rows become one line of each block.
        let mut put = |line: usize, columns: [__m512i; 16]| {
            for (block, column) in (g * GROUP..tile.len()).zip(columns) {
                store(&mut tile[chains.position(block)][line], column);
            }
        };
        for line in 0..4 {
            put(line, transpose(|r| load(&rows[r % TILE][g].q[2 * line + r / TILE])));
        }
        put(4, transpose(|r| load(if r < TILE { &rows[r][g].scale } else { &rows[r - TILE][g].scaled_sum })));
        let sums = |r: usize| {
            let sums = load(&rows[r % TILE][g].sums);
            if r < TILE { sums } else { _mm512_madd_epi16(sums, _mm512_set1_epi16(-1)) }
        };
        put(5, transpose(sums));
    }
}

/// A group of each row of a panel, row by row.
#[repr(align(64))]
struct Unpacked {
    q: [[Line; 8]; ROWS],
    /// Scale, then min, sub and sub_min where the format has them; each line is the group's 16 blocks.
    factors: [[Line; ROWS]; 4],
}

/// Unpacks 16 rows, from `first` on, into a panel. Rows beyond the last are copies of the last.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_panel<F: Format>(task: &Task<'_>, first: usize, chains: &Chains, panel: &mut [Line]) {
    let weight = task.weight;
    let blocks = weight.cols() / BLOCK;
    let rows: [&[u8]; ROWS] = std::array::from_fn(|r| weight.row((first + r).min(weight.rows() - 1)));
    let mut unpacked = Unpacked { q: [[[0; 16]; 8]; ROWS], factors: [[[0; 16]; ROWS]; 4] };
    for g in 0..blocks.div_ceil(GROUP) {
        for (r, row) in rows.iter().enumerate() {
            unpack_group::<F>(&row[g * F::GROUP_BYTES..], r, &mut unpacked);
            for line in (0..F::GROUP_BYTES).step_by(64) {
                // The next panel's; any address will do: a prefetch never faults.
                let next = row.as_ptr().wrapping_add(ROWS * row.len() + g * F::GROUP_BYTES + line);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
            }
        }
        let place = |block: usize| chains.position(g * GROUP + block) * lines::<F>();
        let count = GROUP.min(blocks - g * GROUP);
        for i in 0..8 {
            let columns = transpose(|r| load(&unpacked.q[r][i]));
            for (block, column) in columns.into_iter().enumerate().take(count) {
                store(&mut panel[place(block) + i], column);
            }
        }
        for (f, factor) in unpacked.factors[..lines::<F>() - 8].iter().enumerate() {
            let columns = transpose(|r| load(&factor[r]));
            for (block, column) in columns.into_iter().enumerate().take(count) {
                store(&mut panel[place(block) + 8 + f], column);
            }
        }
    }
}

/// Unpacks the group at the start of `rest` as row `r`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn unpack_group<F: Format>(rest: &[u8], r: usize, to: &mut Unpacked) {
    let mut padded = [0; MAX_GROUP_BYTES];
    let group = if rest.len() < F::GROUP_BYTES {
        padded[..rest.len()].copy_from_slice(rest);
        &padded[..F::GROUP_BYTES]
    } else {
        &rest[..F::GROUP_BYTES]
    };
    // SAFETY: this function has the features.
    let (turned, f) = unsafe { (F::turned(group), F::factors(group)) };
    for (i, q) in turned.into_iter().enumerate() {
        store(&mut to.q[r][i], _mm512_srlv_epi32(q, load(&F::SHIFT[i / 4])));
    }
    let mut factors = to.factors.iter_mut();
    let mut put = |has: bool, value: __m512i| {
        if let Some(factor) = has.then(|| factors.next()).flatten() {
            store(&mut factor[r], value);
        }
    };
    put(true, _mm512_castps_si512(f.scale));
    put(F::FORM.min, _mm512_castps_si512(f.min));
    put(F::FORM.sub, f.sub);
    put(F::FORM.sub_min, f.sub_min);
}

/// Word `p` of row `m` among lines of a tile.
#[inline]
fn word(lines: &[Line], p: usize, m: usize) -> i32 {
    lines[p / 2][p % 2 * TILE + m] as i32
}

/// Adds the products of lines of weights and as many words of activations.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dots<const M: usize>(mut sums: [__m512i; M], w: &[Line], x: &[Line]) -> [__m512i; M] {
    for (p, w) in w.iter().enumerate() {
        let w = load(w);
        for m in 0..M {
            sums[m] = _mm512_dpbusd_epi32(sums[m], w, _mm512_set1_epi32(word(x, p, m)));
        }
    }
    sums
}

/// The integer sums of one block for `M` rows of activations, zero points taken off.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn block_sums<F: Format, const M: usize>(w: &[Line], x: &TileBlock) -> [__m512i; M] {
    let zero = [_mm512_setzero_si512(); M];
    if !F::FORM.sub {
        let start = match F::ZERO {
            Some(z) => std::array::from_fn(|m| {
                _mm512_sllv_epi32(_mm512_set1_epi32(word(&x[5..], 1, m)), _mm512_set1_epi32(z as i32))
            }),
            None => zero,
        };
        return dots(start, &w[..8], &x[..4]);
    }
    let sub = load(&w[9 + F::FORM.min as usize]);
    let (first, second) =
        (_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(sub)), _mm512_srai_epi32::<16>(sub));
    let halves = dots(zero, &w[..4], &x[..2]);
    let mut sums = halves.map(|sum| _mm512_mullo_epi32(sum, first));
    if let Some(z) = F::ZERO {
        let negative =
            _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_sllv_epi16(sub, _mm512_set1_epi16(z as i16)));
        for m in 0..M {
            sums[m] = _mm512_dpwssd_epi32(sums[m], negative, _mm512_set1_epi32(word(&x[5..], 0, m)));
        }
    }
    let halves = dots(zero, &w[4..8], &x[2..4]);
    for m in 0..M {
        sums[m] = _mm512_add_epi32(sums[m], _mm512_mullo_epi32(halves[m], second));
    }
    sums
}

/// A panel times the first `M` rows of a tile: 16 outputs for each.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn multiply<F: Format, const M: usize>(panel: &[Line], tile: &[TileBlock], chains: &Chains) -> [__m512; M] {
    let mut partial = [[_mm512_setzero_ps(); M]; 5];
    let mut kept = 0;
    let mut blocks = panel.chunks_exact(lines::<F>()).zip(tile);
    for (chain, length) in chains.lengths().into_iter().enumerate() {
        let mut lanes = [_mm512_setzero_ps(); M];
        for (w, x) in blocks.by_ref().take(length) {
            let sums = block_sums::<F, M>(w, x);
            let x_scale = |m: usize| _mm512_castsi512_ps(_mm512_set1_epi32(word(&x[4..], 0, m)));
            let scale = _mm512_castsi512_ps(load(&w[8]));
            for m in 0..M {
                let scale = _mm512_mul_ps(scale, x_scale(m));
                lanes[m] = _mm512_add_ps(lanes[m], _mm512_mul_ps(_mm512_cvtepi32_ps(sums[m]), scale));
            }
            if F::FORM.min {
                let min = _mm512_castsi512_ps(load(&w[9]));
                for m in 0..M {
                    let term = if F::FORM.sub_min {
                        let zero = _mm512_setzero_si512();
                        let sums =
                            _mm512_dpwssd_epi32(zero, load(&w[11]), _mm512_set1_epi32(word(&x[5..], 0, m)));
                        let scale = _mm512_mul_ps(min, x_scale(m));
                        _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale)
                    } else {
                        _mm512_mul_ps(min, _mm512_castsi512_ps(_mm512_set1_epi32(word(&x[4..], 1, m))))
                    };
                    lanes[m] = _mm512_add_ps(lanes[m], term);
                }
            }
        }
        for _ in 0..folds_after(chain) {
            kept -= 1;
            for m in 0..M {
                lanes[m] = _mm512_add_ps(partial[kept][m], lanes[m]);
            }
        }
        partial[kept] = lanes;
        kept += 1;
    }
    partial[0]
}

/// Rows `first .. first + 16` of the weights against all tiles.
///
/// # Safety
/// The processor has the features; `out` may be written at every chosen row and those columns.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run<F: Format>(task: &Task<'_>, first: usize, tiles: &[u32], panel: &mut [u32]) {
    let (tiles, panel): (&[TileBlock], &mut [Line]) =
        (bytemuck::cast_slice(tiles), bytemuck::cast_slice_mut(panel));
    let blocks = task.weight.cols() / BLOCK;
    let chains = Chains::new(blocks);
    pack_panel::<F>(task, first, &chains, panel);
    let rows = ROWS.min(task.weight.rows() - first);
    let mask = u16::MAX >> (ROWS - rows);
    for (t, tile) in tiles.chunks_exact(blocks).enumerate() {
        let put = |j: usize, value: __m512| {
            let to = task.out.at(t * TILE + j, first);
            // SAFETY: the caller's; the mask leaves out columns beyond the last.
            unsafe { _mm512_mask_storeu_ps(to, mask, value) };
        };
        match task.select.len() - t * TILE {
            count @ 1..=4 => {
                let values = multiply::<F, 4>(panel, tile, &chains);
                values[..count].iter().enumerate().for_each(|(j, v)| put(j, *v));
            }
            count => {
                let values = multiply::<F, TILE>(panel, tile, &chains);
                values[..TILE.min(count)].iter().enumerate().for_each(|(j, v)| put(j, *v));
            }
        }
    }
}
