//! Float weights on AVX2, widened in registers.

use std::arch::x86_64::*;
use std::ops::Range;

use super::super::input::Input;
use super::super::task::Task;
use super::{Lanes, reduce};

/// How far ahead of its loads a dot product fetches weights, in bytes.
const AHEAD: usize = 2048;

/// A way to read float weights.
pub(super) trait Widen {
    /// Stored bytes of 16 elements.
    const BYTES: usize;

    /// 16 elements from [`Self::BYTES`] bytes.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn widen(bytes: &[u8]) -> Lanes;
}

pub(super) struct F32;
pub(super) struct F16;
pub(super) struct Bf16;

impl Widen for F32 {
    const BYTES: usize = 64;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> Lanes {
        let bytes = &bytes[..64];
        // SAFETY: the slice has 64 bytes.
        unsafe { [_mm256_loadu_ps(bytes.as_ptr().cast()), _mm256_loadu_ps(bytes[32..].as_ptr().cast())] }
    }
}

/// Eight 16-bit elements, twice.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn words(bytes: &[u8]) -> [__m128i; 2] {
    let bytes = &bytes[..32];
    // SAFETY: the slice has 32 bytes.
    unsafe { [_mm_loadu_si128(bytes.as_ptr().cast()), _mm_loadu_si128(bytes[16..].as_ptr().cast())] }
}

impl Widen for F16 {
    const BYTES: usize = 32;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> Lanes {
        words(bytes).map(|words| _mm256_cvtph_ps(words))
    }
}

impl Widen for Bf16 {
    const BYTES: usize = 32;

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    unsafe fn widen(bytes: &[u8]) -> Lanes {
        words(bytes).map(|words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words))))
    }
}

/// Dot products of `R` stored rows with `M` rows of activations.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn dot<W: Widen, const R: usize, const M: usize>(rows: [&[u8]; R], x: [&[f32]; M]) -> [[f32; M]; R] {
    let mut lanes = [[[_mm256_setzero_ps(); 2]; M]; R];
    let mut step = |w: [Lanes; R], x: [&[f32]; M]| {
        for m in 0..M {
            let x = &x[m][..16];
            // SAFETY: the slice has 16 floats.
            let x = unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x[8..].as_ptr())] };
            for r in 0..R {
                for h in 0..2 {
                    lanes[r][m][h] = _mm256_fmadd_ps(w[r][h], x[h], lanes[r][m][h]);
                }
            }
        }
    };
    let whole = x[0].len() / 16;
    for i in 0..whole {
        let w = rows.map(|row| {
            let chunk = &row[i * W::BYTES..][..W::BYTES];
            // Any address will do: a prefetch never faults.
            _mm_prefetch::<_MM_HINT_T0>(chunk.as_ptr().wrapping_add(AHEAD).cast());
            // SAFETY: this function has the features.
            unsafe { W::widen(chunk) }
        });
        step(w, x.map(|x| &x[i * 16..]));
    }
    if !x[0].len().is_multiple_of(16) {
        let w = rows.map(|row| {
            let mut padded = [0; 64];
            padded[..row.len() - whole * W::BYTES].copy_from_slice(&row[whole * W::BYTES..]);
            // SAFETY: this function has the features.
            unsafe { W::widen(&padded) }
        });
        let padded = x.map(|x| {
            let mut padded = [0.0; 16];
            padded[..x.len() % 16].copy_from_slice(&x[whole * 16..]);
            padded
        });
        step(w, padded.each_ref().map(|x| x.as_slice()));
    }
    lanes.map(|lanes| lanes.map(|lanes| reduce(lanes)))
}

/// All chosen rows of the input against rows `rows` of the weights.
///
/// # Safety
/// The processor has the features; `out` may be written at every chosen row and each of `rows`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<W: Widen>(task: &Task<'_>, rows: Range<usize>, x: &Input<'_>) {
    let count = task.select.len();
    for first in (0..count).step_by(2) {
        if count - first == 1 {
            dot_rows::<W, 1>(task, rows.clone(), first, x);
        } else {
            dot_rows::<W, 2>(task, rows.clone(), first, x);
        }
    }
}

/// Chosen rows `first .. first + M` against rows `rows` of the weights.
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_rows<W: Widen, const M: usize>(task: &Task<'_>, rows: Range<usize>, first: usize, x: &Input<'_>) {
    let x = std::array::from_fn(|i| x.row(task.select.row(first + i)));
    let put = |row: usize, values: &[f32; M]| {
        for (i, value) in values.iter().enumerate() {
            // SAFETY: the promise of `run`'s caller.
            unsafe { task.out.put(first + i, row, *value) };
        }
    };
    let weight = task.weight;
    let mut row = rows.start;
    while row + 1 < rows.end {
        let [a, b] = dot::<W, 2, M>([weight.row(row), weight.row(row + 1)], x);
        put(row, &a);
        put(row + 1, &b);
        row += 2;
    }
    if row < rows.end {
        let [a] = dot::<W, 1, M>([weight.row(row)], x);
        put(row, &a);
    }
}
