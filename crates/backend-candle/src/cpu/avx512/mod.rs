//! Kernels for AVX-512 with VNNI.

// Indices number rows of a tile across several arrays of registers; an iterator over one of them would hide the others.
#![allow(clippy::needless_range_loop)]

mod dot;
mod float;
mod formats;
mod panel;
mod quantise;
mod turn;

use std::arch::x86_64::*;

use perch_model::DType;

use super::input::Line;
use super::kernel::{Kernel, Need, PanelKernel};
use formats::Format;

pub(super) use quantise::{quantise, round_pairs};

/// How far ahead of its loads a dot product fetches weights, in bytes. The hardware's own prefetch stops at the ends of
/// pages; measured best of 1, 2, 4, 8 and 16 KiB.
const AHEAD: usize = 2048;

/// Room for a group of any format.
const MAX_GROUP_BYTES: usize = 640;

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line has 64 bytes.
    unsafe { _mm512_loadu_si512(line.as_ptr().cast()) }
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn store(line: &mut Line, value: __m512i) {
    // SAFETY: a line has 64 bytes.
    unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), value) };
}

/// Folds the lanes: halves onto halves, 8, 4, 2, 1.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn reduce(lanes: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// The kernel for weights of type `dtype`; `pairs` says whether the processor multiplies pairs of `bf16`.
pub(super) fn kernel(dtype: DType, pairs: bool) -> Option<Kernel> {
    Some(match dtype {
        DType::F32 => float::<float::F32>(Need::Plain),
        DType::F16 => float::<float::F16>(Need::Plain),
        DType::BF16 if pairs => float::<float::Bf16Pairs>(Need::Pairs),
        DType::BF16 => float::<float::Bf16>(Need::Plain),
        DType::Q4_0 => quantised::<formats::Q4_0>(),
        DType::Q4_1 => quantised::<formats::Q4_1>(),
        DType::Q5_0 => quantised::<formats::Q5_0>(),
        DType::Q5_1 => quantised::<formats::Q5_1>(),
        DType::Q8_0 => quantised::<formats::Q8_0>(),
        DType::Affine8 => quantised::<formats::Affine8>(),
        DType::Mxfp4 => quantised::<formats::Mxfp4>(),
        DType::Q2K => quantised::<formats::Q2K>(),
        DType::Q3K => quantised::<formats::Q3K>(),
        DType::Q4K => quantised::<formats::Q4K>(),
        DType::Q5K => quantised::<formats::Q5K>(),
        DType::Q6K => quantised::<formats::Q6K>(),
        _ => return None,
    })
}

/// The kernel of a block format.
fn quantised<F: Format>() -> Kernel {
    let panel = PanelKernel {
        from: 24,
        rows: panel::ROWS,
        tile: panel::TILE,
        panel_words: panel::panel_words::<F>,
        tile_words: panel::tile_words,
        pack_tile: panel::pack_tile,
        run: panel::run::<F>,
    };
    Kernel { need: Need::Quantised, dot: dot::run::<F>, panel: Some(panel) }
}

/// The kernel of a float type.
fn float<L: float::Lanes>(need: Need) -> Kernel {
    let panel = PanelKernel {
        from: 12,
        rows: float::ROWS,
        tile: float::TILE,
        panel_words: float::panel_words::<L>,
        tile_words: float::tile_words::<L>,
        pack_tile: float::pack_tile::<L>,
        run: float::run_panel::<L>,
    };
    Kernel { need, dot: float::run_dot::<L>, panel: Some(panel) }
}
