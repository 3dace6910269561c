//! Quantisation of activations on AVX-512; see `input.rs` for what it computes.

use std::arch::x86_64::*;

use super::super::block::BLOCK;
use super::super::input::QuantisedRow;

/// Quantises the whole blocks of a row.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in super::super) unsafe fn quantise(x: &[f32], row: QuantisedRow<'_>) {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    for (b, (x, q)) in x.chunks_exact(BLOCK).zip(row.q.chunks_exact_mut(BLOCK)).enumerate() {
        // SAFETY: a block has 32 floats.
        let (low, high) = unsafe { (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x[16..].as_ptr())) };
        let bits = |v: __m512| _mm512_and_si512(_mm512_castps_si512(v), magnitude);
        let max = f32::from_bits(_mm512_reduce_max_epi32(_mm512_max_epi32(bits(low), bits(high))) as u32);
        let inverse = _mm512_set1_ps(if max > 0.0 { 127.0 / max } else { 0.0 });
        let round = |v: __m512| _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(v, inverse)));
        let (low, high) = (round(low), round(high));
        // SAFETY: a block has 32 bytes.
        unsafe {
            _mm_storeu_si128(q.as_mut_ptr().cast(), low);
            _mm_storeu_si128(q[16..].as_mut_ptr().cast(), high);
        }
        let sum = |v: __m128i| _mm256_reduce_add_epi16(_mm256_cvtepi8_epi16(v));
        let sums = [sum(low), sum(high)];
        row.scale[b] = max / 127.0;
        row.scaled_sum[b] = row.scale[b] * f32::from(sums[0] + sums[1]);
        row.sums[b] = sums;
    }
}
