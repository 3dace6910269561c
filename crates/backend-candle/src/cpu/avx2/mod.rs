//! Kernels for AVX2 with FMA and F16C.
//!
//! Weight rows are unpacked by the code of `block.rs`, compiled for this level, in small blocks of rows that then stay
//! in the nearest cache for all rows of activations; so one kernel serves few rows and many.

#![allow(clippy::needless_range_loop, reason = "registers are indexed side by side")]

mod float;
mod quantised;

use std::arch::x86_64::*;

use perch_model::DType;

use super::kernel::{Kernel, Need};

pub(super) use quantised::quantise;

/// Two registers: the sixteen lanes of a dot product.
type Lanes = [__m256; 2];

/// The kernel for weights of type `dtype`.
pub(super) fn kernel(dtype: DType) -> Option<Kernel> {
    Some(match dtype {
        DType::F32 => Kernel { need: Need::Plain, dot: float::run::<float::F32>, panel: None },
        DType::F16 => Kernel { need: Need::Plain, dot: float::run::<float::F16>, panel: None },
        DType::BF16 => Kernel { need: Need::Plain, dot: float::run::<float::Bf16>, panel: None },
        _ => Kernel { need: Need::Quantised, dot: quantised::kernel(dtype)?, panel: None },
    })
}

/// Folds the lanes: halves onto halves, 8, 4, 2, 1.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn reduce(lanes: Lanes) -> f32 {
    let eight = _mm256_add_ps(lanes[0], lanes[1]);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
