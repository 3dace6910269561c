//! Quantised weights on AVX2.
//!
//! Eight blocks are turned so that lane `b` of register `i` holds the `i`th four bytes of block `b`, weights and
//! activations alike; sums then never leave their block's lane, and the float part is `portable.rs`'s on eight lanes at a
//! time. Products of bytes want one side unsigned: weights are lifted into 0–63, where two pairs of products fit an
//! `i16`; weights that take all of `i8` give their sign to the activation instead.

use std::arch::x86_64::*;
use std::ops::Range;

use perch_model::DType;

use super::super::block::{BLOCK, Form, UnpackedRow};
use super::super::input::{GROUP, Group, Input, Line};
use super::super::kernel::Dot;
use super::super::portable;
use super::super::task::Task;
use super::{Lanes, reduce};

/// Weight rows unpacked at a time.
const ROWS: usize = 16;

/// Sixteen blocks of a weight row, turned. Fields that the form lacks are zero.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Weights {
    /// Eight registers of the first eight blocks, then of the others; lifted by the form's zero.
    q: [Line; 8],
    scale: Line,
    min: Line,
    /// Two `i16`, one for each half of the block.
    sub: Line,
    /// Two `i16`, one for each half of the block.
    sub_min: Line,
}

/// The kernel for a block format; `None` for other types.
pub(super) fn kernel(dtype: DType) -> Option<Dot> {
    let form = Form::of(dtype)?;
    Some(match (form.min, form.sub, form.zero.is_none()) {
        (false, false, false) => run::<false, false, false>,
        (false, false, true) => run::<false, false, true>,
        (true, false, false) => run::<true, false, false>,
        (true, false, true) => run::<true, false, true>,
        (false, true, _) => run::<false, true, false>,
        (true, true, _) => run::<true, true, false>,
    })
}

/// Quantises a row of activations and turns it.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in super::super) unsafe fn quantise(x: &[f32], row: &mut [Group]) {
    portable::quantise(x, row);
    for group in row {
        turn(&mut group.q, _mm256_setzero_si256());
    }
}

/// Turns two times eight blocks and adds `lift` to every byte.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn turn(q: &mut [Line; 8], lift: __m256i) {
    for half in q.as_chunks_mut::<4>().0 {
        let blocks: &mut [[u8; 32]; 8] = bytemuck::cast_mut(half);
        // SAFETY: a block has 32 bytes.
        let rows: [__m256i; 8] = std::array::from_fn(|b| unsafe {
            _mm256_add_epi8(_mm256_loadu_si256(blocks[b].as_ptr().cast()), lift)
        });
        for (block, turned) in blocks.iter_mut().zip(transpose(&rows)) {
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(block.as_mut_ptr().cast(), turned) };
        }
    }
}

/// Turns 8 rows of 8 double words into 8 columns.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn transpose(rows: &[__m256i; 8]) -> [__m256i; 8] {
    let zero = _mm256_setzero_si256();
    // Within each 16 bytes: `fours[q][c]` has columns `c` and `4 + c` of rows `4 q .. 4 q + 4`.
    let mut fours = [[zero; 4]; 2];
    for q in 0..2 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|r| rows[4 * q + r]);
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        fours[q][0] = _mm256_unpacklo_epi64(ab, cd);
        fours[q][1] = _mm256_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        fours[q][2] = _mm256_unpacklo_epi64(ab, cd);
        fours[q][3] = _mm256_unpackhi_epi64(ab, cd);
    }
    let mut columns = [zero; 8];
    for c in 0..4 {
        columns[c] = _mm256_permute2x128_si256::<0x20>(fours[0][c], fours[1][c]);
        columns[4 + c] = _mm256_permute2x128_si256::<0x31>(fours[0][c], fours[1][c]);
    }
    columns
}

/// Unpacks row `row` of the weights by way of `unpacked`.
#[target_feature(enable = "avx2,fma,f16c")]
fn unpack(task: &Task<'_>, row: usize, unpacked: &mut UnpackedRow, to: &mut [Weights]) {
    unpacked.unpack(task.weight.dtype(), task.weight.row(row));
    let lift = _mm256_set1_epi8(unpacked.form.zero.unwrap_or(0));
    let pairs = |[first, second]: [i32; 2]| u32::from(first as i16 as u16) | (second as u32) << 16;
    for (g, to) in to.iter_mut().enumerate() {
        *to = bytemuck::Zeroable::zeroed();
        let q = &unpacked.q[g * GROUP * BLOCK..];
        let count = q.len().min(GROUP * BLOCK);
        bytemuck::cast_slice_mut(&mut to.q)[..count].copy_from_slice(&q[..count]);
        turn(&mut to.q, lift);
        let floats = |from: &[f32], to: &mut Line| {
            to.iter_mut().zip(from.iter().skip(g * GROUP)).for_each(|(to, v)| *to = v.to_bits());
        };
        floats(&unpacked.scale, &mut to.scale);
        floats(&unpacked.min, &mut to.min);
        let words = |from: &[[i32; 2]], to: &mut Line| {
            to.iter_mut().zip(from.iter().skip(g * GROUP)).for_each(|(to, v)| *to = pairs(*v));
        };
        words(&unpacked.sub, &mut to.sub);
        words(&unpacked.sub_min, &mut to.sub_min);
    }
}

/// Eight of a line's double words.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn load(line: &Line, half: usize) -> __m256i {
    let words = &line[8 * half..][..8];
    // SAFETY: the slice has 32 bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Register `i` of eight blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn register(q: &[Line; 8], half: usize, i: usize) -> __m256i {
    load(&q[4 * half + i / 2], i % 2)
}

/// Sums of the products of registers `from .. from + 4`: half a block of each of eight.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn half_sums<const SIGNED: bool>(w: &[Line; 8], x: &[Line; 8], half: usize, from: usize) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let products = |i: usize| {
        let (w, x) = (register(w, half, from + i), register(x, half, from + i));
        if SIGNED {
            _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
        } else {
            _mm256_maddubs_epi16(w, x)
        }
    };
    let two = |i: usize| {
        if SIGNED {
            _mm256_add_epi32(_mm256_madd_epi16(products(i), ones), _mm256_madd_epi16(products(i + 1), ones))
        } else {
            // 2 * 2 * 63 * 127 fits.
            _mm256_madd_epi16(_mm256_add_epi16(products(i), products(i + 1)), ones)
        }
    };
    _mm256_add_epi32(two(0), two(2))
}

/// Adds the terms of eight blocks to their lanes. `excess` is what every `q` is too small by, after lifting.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn add_blocks<const MIN: bool, const SUB: bool, const SIGNED: bool>(
    lanes: __m256,
    (w, x): (&Weights, &Group),
    half: usize,
    excess: i32,
) -> __m256 {
    let halves = [half_sums::<SIGNED>(&w.q, &x.q, half, 0), half_sums::<SIGNED>(&w.q, &x.q, half, 4)];
    let sums = load(&x.sums, half);
    let sum = if SUB {
        let sub = load(&w.sub, half);
        // Two `i16` to a lane: the lower by a shift up and down, the upper by a shift down.
        let (first, second) =
            (_mm256_srai_epi32::<16>(_mm256_slli_epi32::<16>(sub)), _mm256_srai_epi32::<16>(sub));
        let scaled =
            _mm256_add_epi32(_mm256_mullo_epi32(halves[0], first), _mm256_mullo_epi32(halves[1], second));
        let zero = _mm256_mullo_epi32(_mm256_madd_epi16(sums, sub), _mm256_set1_epi32(excess));
        _mm256_add_epi32(scaled, zero)
    } else {
        let zero = _mm256_madd_epi16(sums, _mm256_set1_epi16(excess as i16));
        _mm256_add_epi32(_mm256_add_epi32(halves[0], halves[1]), zero)
    };
    let float = |v: __m256i| _mm256_castsi256_ps(v);
    let x_scale = float(load(&x.scale, half));
    let scale = _mm256_mul_ps(float(load(&w.scale, half)), x_scale);
    let lanes = _mm256_add_ps(lanes, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
    if !MIN {
        return lanes;
    }
    let min = float(load(&w.min, half));
    let term = if SUB {
        let mins = _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, load(&w.sub_min, half)));
        _mm256_mul_ps(mins, _mm256_mul_ps(min, x_scale))
    } else {
        _mm256_mul_ps(min, float(load(&x.scaled_sum, half)))
    };
    _mm256_add_ps(lanes, term)
}

/// Dot products of an unpacked row with `M` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot<const MIN: bool, const SUB: bool, const SIGNED: bool, const M: usize>(
    w: &[Weights],
    x: &[&[Group]; M],
    excess: i32,
) -> [f32; M] {
    let mut lanes: [Lanes; M] = [[_mm256_setzero_ps(); 2]; M];
    for (g, w) in w.iter().enumerate() {
        for half in 0..2 {
            for m in 0..M {
                let lanes = &mut lanes[m][half];
                *lanes = add_blocks::<MIN, SUB, SIGNED>(*lanes, (w, &x[m][g]), half, excess);
            }
        }
    }
    lanes.map(|lanes| reduce(lanes))
}

/// All chosen rows of the input against rows `rows` of the weights.
///
/// # Safety
/// The processor has the features; `out` may be written at every chosen row and each of `rows`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<const MIN: bool, const SUB: bool, const SIGNED: bool>(
    task: &Task<'_>,
    rows: Range<usize>,
    x: &Input<'_>,
) {
    let Some(form) = Form::of(task.weight.dtype()) else { return };
    let excess = form.lift - i32::from(form.zero.unwrap_or(0));
    let mut unpacked = UnpackedRow::new(form, task.weight.cols());
    let groups = (task.weight.cols() / BLOCK).div_ceil(GROUP);
    let mut block = x.scratch().take::<Weights>(ROWS * groups);
    let count = task.select.len();
    let view = |j: usize| x.quantised().row(task.select.row(j));
    for start in rows.clone().step_by(ROWS) {
        let block_rows = start..rows.end.min(start + ROWS);
        for (row, to) in block_rows.clone().zip(block.chunks_exact_mut(groups)) {
            unpack(task, row, &mut unpacked, to);
        }
        for first in (0..count).step_by(2) {
            for (row, w) in block_rows.clone().zip(block.chunks_exact(groups)) {
                let put = |values: &[f32]| {
                    for (i, value) in values.iter().enumerate() {
                        // SAFETY: the caller's.
                        unsafe { task.out.put(first + i, row, *value) };
                    }
                };
                if count - first == 1 {
                    put(&dot::<MIN, SUB, SIGNED, 1>(w, &[view(first)], excess));
                } else {
                    put(&dot::<MIN, SUB, SIGNED, 2>(w, &[view(first), view(first + 1)], excess));
                }
            }
        }
    }
}
