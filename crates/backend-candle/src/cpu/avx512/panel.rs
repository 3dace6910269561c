//! Many rows of activations against quantised weights: prefill and large batches.
//!
//! Sixteen weight rows are unpacked once into a panel of bytes in which a register holds four weights of each row, so
//! that one instruction multiplies four activations (broadcast) with sixteen rows, and sums never leave their lane. Tiles
//! of eight activation rows then run over the panel, which stays in the cache. Lanes run one after another
//! ([`Chains`]), so a tile needs eight integer and eight float sums, and the result is `portable.rs`'s bit for bit.

use std::arch::x86_64::*;

use super::super::block::BLOCK;
use super::super::chains::{Chains, folds_after};
use super::super::input::{GROUP, Input, QuantisedView};
use super::super::task::Task;
use super::MAX_GROUP_BYTES;
use super::formats::Format;
use super::transpose::transpose;

/// Weight rows in a panel.
pub(super) const ROWS: usize = 16;
/// Activation rows in a tile.
pub(super) const TILE: usize = 8;

/// A register's worth of a panel: one double word of each row.
type Line = [u32; 16];

/// One block of a tile of activations.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct TileBlock {
    /// Four `i8` of each row, eight times.
    q: [[u32; TILE]; 8],
    scale: [f32; TILE],
    scaled_sum: [f32; TILE],
    /// Two `i16`: the sums of the half blocks.
    sums: [u32; TILE],
    /// Minus the sum of the block.
    negative_sum: [i32; TILE],
}

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
    let rows: [QuantisedView<'_>; TILE] =
        std::array::from_fn(|m| x.quantised().row(task.select.row((first + m).min(last))));
    // Four blocks of eight rows are 16 registers: two blocks of each row, then the two after them.
    for start in (0..tile.len()).step_by(4) {
        let columns = transpose(&std::array::from_fn(|r| {
            let q = &rows[r % TILE].q[start * BLOCK + r / TILE * 64..][..64];
            // SAFETY: the slice has 64 bytes.
            unsafe { _mm512_loadu_si512(q.as_ptr().cast()) }
        }));
        for (c, column) in columns.into_iter().enumerate() {
            let halves = [_mm512_castsi512_si256(column), _mm512_extracti64x4_epi64::<1>(column)];
            for (h, half) in halves.into_iter().enumerate() {
                let block = start + 2 * h + c / 8;
                if block < tile.len() {
                    let to = &mut tile[chains.position(block)].q[c % 8];
                    // SAFETY: a row of the tile has 32 bytes.
                    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), half) };
                }
            }
        }
    }
    for b in 0..tile.len() {
        let to = &mut tile[chains.position(b)];
        for (m, row) in rows.iter().enumerate() {
            let [first, second] = row.sums[b];
            to.scale[m] = row.scale[b];
            to.scaled_sum[m] = row.scaled_sum[b];
            to.sums[m] = u32::from(first as u16) | u32::from(second as u16) << 16;
            to.negative_sum[m] = -(i32::from(first) + i32::from(second));
        }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn store(line: &mut Line, value: __m512i) {
    // SAFETY: a line has 64 bytes.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), value) };
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line has 64 bytes.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

/// Unpacks 16 rows, from `first` on, into a panel. Rows beyond the last are copies of the last.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pack_panel<F: Format>(task: &Task<'_>, first: usize, chains: &Chains, panel: &mut [Line]) {
    let weight = task.weight;
    let blocks = weight.cols() / BLOCK;
    let rows: [&[u8]; ROWS] = std::array::from_fn(|r| weight.row((first + r).min(weight.rows() - 1)));
    let mut padded = [[0; MAX_GROUP_BYTES]; ROWS];
    for g in 0..blocks.div_ceil(GROUP) {
        let at = g * F::GROUP_BYTES;
        let whole = at + F::GROUP_BYTES <= rows[0].len();
        if !whole {
            for (padded, row) in padded.iter_mut().zip(rows) {
                padded[..row.len() - at].copy_from_slice(&row[at..]);
            }
        }
        let group =
            |r: usize| if whole { &rows[r][at..at + F::GROUP_BYTES] } else { &padded[r][..F::GROUP_BYTES] };
        let mut put = |block: usize, line: usize, value: __m512i| {
            if g * GROUP + block < blocks {
                store(&mut panel[chains.position(g * GROUP + block) * lines::<F>() + line], value);
            }
        };
        for i in 0..8 {
            // SAFETY: this function has the features.
            let columns = transpose(&std::array::from_fn(|r| unsafe { F::quants(group(r), i) }));
            for (c, column) in columns.into_iter().enumerate() {
                put(2 * i + c / 8, c % 8, column);
            }
        }
        // SAFETY: this function has the features.
        let factors: [_; ROWS] = std::array::from_fn(|r| unsafe { F::factors(group(r)) });
        let mut line = 8;
        let mut put_all = |columns: [__m512i; 16]| {
            for (block, column) in columns.into_iter().enumerate() {
                put(block, line, column);
            }
            line += 1;
        };
        put_all(transpose(&factors.map(|f| _mm512_castps_si512(f.scale))));
        if F::FORM.min {
            put_all(transpose(&factors.map(|f| _mm512_castps_si512(f.min))));
        }
        if F::FORM.sub {
            put_all(transpose(&factors.map(|f| f.sub)));
        }
        if F::FORM.sub_min {
            put_all(transpose(&factors.map(|f| f.sub_min)));
        }
    }
}

/// Adds the products of four weights and four activations, `count` times from line `from` on.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dots<const M: usize>(mut sums: [__m512i; M], w: &[Line], x: &[[u32; TILE]]) -> [__m512i; M] {
    for (w, x) in w.iter().zip(x) {
        let w = load(w);
        for m in 0..M {
            sums[m] = _mm512_dpbusd_epi32(sums[m], w, _mm512_set1_epi32(x[m] as i32));
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
                _mm512_sllv_epi32(_mm512_set1_epi32(x.negative_sum[m]), _mm512_set1_epi32(z as i32))
            }),
            None => zero,
        };
        return dots(start, &w[..8], &x.q);
    }
    let sub = load(&w[9 + F::FORM.min as usize]);
    let (first, second) =
        (_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(sub)), _mm512_srai_epi32::<16>(sub));
    let halves = dots(zero, &w[..4], &x.q[..4]);
    let mut sums = halves.map(|sum| _mm512_mullo_epi32(sum, first));
    if let Some(z) = F::ZERO {
        let negative =
            _mm512_sub_epi16(_mm512_setzero_si512(), _mm512_sllv_epi16(sub, _mm512_set1_epi16(z as i16)));
        for m in 0..M {
            sums[m] = _mm512_dpwssd_epi32(sums[m], negative, _mm512_set1_epi32(x.sums[m] as i32));
        }
    }
    let halves = dots(zero, &w[4..8], &x.q[4..]);
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
            let scale = _mm512_castsi512_ps(load(&w[8]));
            for m in 0..M {
                let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x.scale[m]));
                lanes[m] = _mm512_add_ps(lanes[m], _mm512_mul_ps(_mm512_cvtepi32_ps(sums[m]), scale));
            }
            if F::FORM.min {
                let min = _mm512_castsi512_ps(load(&w[9]));
                for m in 0..M {
                    let term = if F::FORM.sub_min {
                        let zero = _mm512_setzero_si512();
                        let sums =
                            _mm512_dpwssd_epi32(zero, load(&w[11]), _mm512_set1_epi32(x.sums[m] as i32));
                        let scale = _mm512_mul_ps(min, _mm512_set1_ps(x.scale[m]));
                        _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scale)
                    } else {
                        _mm512_mul_ps(min, _mm512_set1_ps(x.scaled_sum[m]))
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
