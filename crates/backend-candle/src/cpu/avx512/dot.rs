//! Few rows of activations against quantised weights: decoding, and small batches.
//!
//! A weight row streams through once for up to eight rows of activations. A group of 16 blocks is turned (`turn.rs`) so
//! that a lane is a block; activations lie in memory that way. Then eight multiply-adds leave each block's integer in a
//! lane of its own, which is the lane of `portable.rs`, and the float part runs on all 16 lanes with the scales of 16
//! blocks in one register. Nothing is summed across lanes before the row's end.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::input::{Group, Input, Line};
use super::super::task::Task;
use super::formats::{Factors, Format};
use super::turn::Turned;
use super::{AHEAD, MAX_GROUP_BYTES, load, reduce};

/// Integer dot products of a group's half blocks, too high by the format's shifts.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn halves(w: &Turned, x: &[Line; 8]) -> (__m512i, __m512i) {
    let mut sums = [_mm512_setzero_si512(); 2];
    for i in 0..4 {
        sums[0] = _mm512_dpbusd_epi32(sums[0], w[i], load(&x[i]));
        sums[1] = _mm512_dpbusd_epi32(sums[1], w[4 + i], load(&x[4 + i]));
    }
    (sums[0], sums[1])
}

/// Adds a group's terms to the lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_group<F: Format>(lanes: __m512, w: &Turned, f: &Factors, x: &Group) -> __m512 {
    let (mut first, mut second) = halves(w, &x.q);
    if F::FORM.sub || F::SHIFT[0] != F::SHIFT[1] {
        first = _mm512_srav_epi32(first, load(&F::SHIFT[0]));
        second = _mm512_srav_epi32(second, load(&F::SHIFT[1]));
    }
    let scale = _mm512_castsi512_ps(load(&x.scale));
    let mut sum = if F::FORM.sub {
        // Two `i16` to a lane: the lower by a shift up and down, the upper by a shift down.
        let sub = (_mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(f.sub)), _mm512_srai_epi32::<16>(f.sub));
        _mm512_add_epi32(_mm512_mullo_epi32(first, sub.0), _mm512_mullo_epi32(second, sub.1))
    } else if F::SHIFT[0] == F::SHIFT[1] {
        _mm512_srav_epi32(_mm512_add_epi32(first, second), load(&F::SHIFT[0]))
    } else {
        _mm512_add_epi32(first, second)
    };
    if let Some(zero) = F::ZERO {
        let weights = if F::FORM.sub { f.sub } else { _mm512_set1_epi16(1) };
        let excess = _mm512_madd_epi16(load(&x.sums), weights);
        sum = _mm512_sub_epi32(sum, _mm512_sllv_epi32(excess, _mm512_set1_epi32(zero as i32)));
    }
    let term = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(f.scale, scale));
    let lanes = _mm512_add_ps(lanes, term);
    if F::FORM.sub_min {
        let min = _mm512_cvtepi32_ps(_mm512_madd_epi16(load(&x.sums), f.sub_min));
        _mm512_add_ps(lanes, _mm512_mul_ps(min, _mm512_mul_ps(f.min, scale)))
    } else if F::FORM.min {
        _mm512_add_ps(lanes, _mm512_mul_ps(f.min, _mm512_castsi512_ps(load(&x.scaled_sum))))
    } else {
        lanes
    }
}

/// Dot products of a stored row with `M` rows of activations.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dot<F: Format, const M: usize>(row: &[u8], x: &[&[Group]; M]) -> [f32; M] {
    let mut lanes = [_mm512_setzero_ps(); M];
    let mut padded = [0; MAX_GROUP_BYTES];
    for g in 0..row.len().div_ceil(F::GROUP_BYTES) {
        let rest = &row[g * F::GROUP_BYTES..];
        let group = if rest.len() < F::GROUP_BYTES {
            // The activations beyond the row are zero, so what the padding unpacks to does not matter.
            padded[..rest.len()].copy_from_slice(rest);
            &padded[..F::GROUP_BYTES]
        } else {
            &rest[..F::GROUP_BYTES]
        };
        for line in (0..F::GROUP_BYTES).step_by(64) {
            // Any address will do: a prefetch never faults.
            _mm_prefetch::<_MM_HINT_T0>(group.as_ptr().wrapping_add(AHEAD + line).cast());
        }
        // SAFETY: this function has the features.
        let (w, factors) = unsafe { (F::turned(group), F::factors(group)) };
        for m in 0..M {
            lanes[m] = add_group::<F>(lanes[m], &w, &factors, &x[m][g]);
        }
    }
    lanes.map(|lanes| reduce(lanes))
}

/// All chosen rows of the input against rows `rows` of the weights.
///
/// # Safety
/// The processor has the features; `out` may be written at every chosen row and each of `rows`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run<F: Format>(task: &Task<'_>, rows: Range<usize>, x: &Input<'_>) {
    let count = task.select.len();
    for first in (0..count).step_by(8) {
        match count - first {
            1 => dot_rows::<F, 1>(task, rows.clone(), first, x),
            2 => dot_rows::<F, 2>(task, rows.clone(), first, x),
            3 | 4 => dot_rows::<F, 4>(task, rows.clone(), first, x),
            _ => dot_rows::<F, 8>(task, rows.clone(), first, x),
        }
    }
}

/// Chosen rows `first ..`, `M` of them or as many as there are, against rows `rows` of the weights.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn dot_rows<F: Format, const M: usize>(task: &Task<'_>, rows: Range<usize>, first: usize, x: &Input<'_>) {
    let count = (task.select.len() - first).min(M);
    // Fewer rows than lanes of work: the last stands in for those that are missing, its results are dropped.
    let x = std::array::from_fn(|i| x.quantised().row(task.select.row(first + i.min(count - 1))));
    for row in rows {
        let values = dot::<F, M>(task.weight.row(row), &x);
        for (i, value) in values.into_iter().enumerate().take(count) {
            // SAFETY: the promise of `run`'s caller.
            unsafe { task.out.put(first + i, row, value) };
        }
    }
}
