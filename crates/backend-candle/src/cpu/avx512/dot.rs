//! Few rows of activations against quantised weights: decoding, and small batches.
//!
//! A weight row streams through once for up to four rows of activations. 64 weights meet 64 activations in one
//! instruction; the eight results of a group are folded by shuffles into one register whose lane is the block, which is
//! the lane of `portable.rs`, so the float part runs on all 16 lanes and needs no gathering of scales.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::block::BLOCK;
use super::super::input::{GROUP, Input, QuantisedView};
use super::super::task::Task;
use super::formats::{Factors, Format};
use super::{AHEAD, MAX_GROUP_BYTES, reduce};

/// The folded integers of a group: one lane for each block's first half, and second; order as [`in_order`] takes it.
#[derive(Clone, Copy)]
struct Halves(__m512i, __m512i);

/// Integer dot products of a group's 16 blocks with `x` (512 activations).
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn group_dots(w: &[__m512i; 8], x: &[i8]) -> Halves {
    let zero = _mm512_setzero_si512();
    let dots: [__m512i; 8] = std::array::from_fn(|i| {
        let x = &x[i * 64..][..64];
        // SAFETY: the slice has 64 bytes; the load has no alignment.
        _mm512_dpbusd_epi32(zero, w[i], unsafe { _mm512_loadu_si512(x.as_ptr().cast()) })
    });
    // Fold the four double words of each 16 bytes, four registers into one: 16 bytes then hold four registers' sums.
    let pairs: [__m512i; 4] = std::array::from_fn(|i| {
        let (a, b) = (dots[2 * i], dots[2 * i + 1]);
        _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b))
    });
    let quads: [__m512i; 2] = std::array::from_fn(|i| {
        let (a, b) = (pairs[2 * i], pairs[2 * i + 1]);
        _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b))
    });
    // 16-byte lanes 0 and 2 are first halves (of even and odd blocks), 1 and 3 second halves.
    let [a, b] = quads;
    Halves(_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b))
}

/// Brings what [`Halves`] holds, even blocks before odd ones, into the blocks' order.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn in_order(lanes: __m512i) -> __m512i {
    let order = _mm512_set_epi32(15, 11, 14, 10, 13, 9, 12, 8, 7, 3, 6, 2, 5, 1, 4, 0);
    _mm512_permutexvar_epi32(order, lanes)
}

/// Adds a group's terms to the lanes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_group<F: Format>(lanes: __m512, dots: Halves, f: &Factors, x: &GroupInput) -> __m512 {
    let mut sum = if F::FORM.sub {
        // Two `i16` to a lane: the lower by a shift up and down, the upper by a shift down.
        let first = _mm512_srai_epi32::<16>(_mm512_slli_epi32::<16>(f.sub));
        let second = _mm512_srai_epi32::<16>(f.sub);
        let (dots0, dots1) = (in_order(dots.0), in_order(dots.1));
        _mm512_add_epi32(_mm512_mullo_epi32(dots0, first), _mm512_mullo_epi32(dots1, second))
    } else {
        in_order(_mm512_add_epi32(dots.0, dots.1))
    };
    if let Some(zero) = F::ZERO {
        let ones = _mm512_set1_epi16(1);
        let excess = _mm512_madd_epi16(x.sums, if F::FORM.sub { f.sub } else { ones });
        sum = _mm512_sub_epi32(sum, _mm512_sllv_epi32(excess, _mm512_set1_epi32(zero as i32)));
    }
    let term = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(f.scale, x.scale));
    let lanes = _mm512_add_ps(lanes, term);
    if F::FORM.sub_min {
        let min = _mm512_cvtepi32_ps(_mm512_madd_epi16(x.sums, f.sub_min));
        _mm512_add_ps(lanes, _mm512_mul_ps(min, _mm512_mul_ps(f.min, x.scale)))
    } else if F::FORM.min {
        _mm512_add_ps(lanes, _mm512_mul_ps(f.min, x.scaled_sum))
    } else {
        lanes
    }
}

/// The factors of 16 blocks of activations.
struct GroupInput {
    scale: __m512,
    scaled_sum: __m512,
    sums: __m512i,
}

impl GroupInput {
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn load(x: &QuantisedView<'_>, group: usize) -> Self {
        let at = group * GROUP..(group + 1) * GROUP;
        let (scale, scaled_sum, sums) = (&x.scale[at.clone()], &x.scaled_sum[at.clone()], &x.sums[at]);
        // SAFETY: each slice has 16 elements of four bytes; the loads have no alignment.
        unsafe {
            Self {
                scale: _mm512_loadu_ps(scale.as_ptr()),
                scaled_sum: _mm512_loadu_ps(scaled_sum.as_ptr()),
                sums: _mm512_loadu_si512(sums.as_ptr().cast()),
            }
        }
    }
}

/// Dot products of a stored row with `M` rows of activations.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dot<F: Format, const M: usize>(row: &[u8], x: [QuantisedView<'_>; M]) -> [f32; M] {
    let mut lanes = [_mm512_setzero_ps(); M];
    let mut step = |group: &[u8], g: usize| {
        for line in (0..F::GROUP_BYTES).step_by(64) {
            // Any address will do: a prefetch never faults.
            let ahead = group.as_ptr().wrapping_add(AHEAD + line);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
        }
        // SAFETY: this function has the features.
        let (w, factors) = unsafe { (std::array::from_fn(|i| F::quants(group, i)), F::factors(group)) };
        for m in 0..M {
            let dots = group_dots(&w, &x[m].q[g * GROUP * BLOCK..][..GROUP * BLOCK]);
            lanes[m] = add_group::<F>(lanes[m], dots, &factors, &GroupInput::load(&x[m], g));
        }
    };
    let groups = row.chunks_exact(F::GROUP_BYTES);
    let (tail, whole) = (groups.remainder(), groups.len());
    for (g, group) in groups.enumerate() {
        step(group, g);
    }
    if !tail.is_empty() {
        // The activations beyond the row are zero, so what the padding unpacks to does not matter.
        let mut padded = [0; MAX_GROUP_BYTES];
        padded[..tail.len()].copy_from_slice(tail);
        step(&padded[..F::GROUP_BYTES], whole);
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
    let view = |j: usize| x.quantised().row(task.select.row(j));
    for t in (0..count).step_by(4) {
        match count - t {
            1 => dot_rows::<F, 1>(task, rows.clone(), t, [view(t)]),
            2 => dot_rows::<F, 2>(task, rows.clone(), t, [view(t), view(t + 1)]),
            3 => dot_rows::<F, 3>(task, rows.clone(), t, [view(t), view(t + 1), view(t + 2)]),
            _ => dot_rows::<F, 4>(task, rows.clone(), t, std::array::from_fn(|i| view(t + i))),
        }
    }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
fn dot_rows<F: Format, const M: usize>(
    task: &Task<'_>,
    rows: Range<usize>,
    first: usize,
    x: [QuantisedView<'_>; M],
) {
    for row in rows {
        for (i, value) in dot::<F, M>(task.weight.row(row), x).into_iter().enumerate() {
            // SAFETY: the promise of `run`'s caller.
            unsafe { task.out.put(first + i, row, value) };
        }
    }
}
