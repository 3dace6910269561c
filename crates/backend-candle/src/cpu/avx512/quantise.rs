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

/// Rounds a row to `bf16`, two to a word, to nearest, ties to even.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in super::super) unsafe fn round_pairs(x: &[f32], out: &mut [u32]) {
    // Two `bf16` to each word is 16 words from 32 floats; the last ones through masks.
    for (x, out) in x.chunks(32).zip(out.chunks_mut(16)) {
        let (low, high) = x.split_at(x.len().min(16));
        let words = [low, high].map(|x| {
            let mask = ((1_u32 << x.len()) - 1) as u16;
            // SAFETY: the mask leaves out what is beyond the slice.
            round(unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr()) })
        });
        let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(words[0]), words[1]);
        let mask = ((1_u32 << out.len()) - 1) as u16;
        // SAFETY: the mask leaves out what is beyond the slice.
        unsafe { _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), mask, both) };
    }
}

/// The nearest `bf16`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn round(v: __m512) -> __m256i {
    let bits = _mm512_castps_si512(v);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    // Rounding would carry a NaN's mantissa into an infinity or beyond; keep it, and keep it quiet.
    let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, rounded, quiet)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::Random;
    use half::bf16;

    #[test]
    fn pairs_are_rounded_as_the_half_crate_rounds() {
        if !crate::cpu::isa::Isa::Avx512.is_available() {
            return;
        }
        let mut random = Random(1);
        for len in [1_usize, 2, 15, 16, 17, 31, 33, 64, 101] {
            // Any bits at all: subnormals, infinities and NaNs too.
            let x: Vec<f32> = (0..len).map(|_| f32::from_bits(random.next() as u32)).collect();
            let mut out = vec![u32::MAX; len.div_ceil(2)];
            // SAFETY: detected above.
            unsafe { round_pairs(&x, &mut out) };
            for (word, x) in out.iter().zip(x.chunks(2)) {
                let expected = [x[0], x.get(1).copied().unwrap_or(0.0)].map(|v| bf16::from_f32(v).to_bits());
                assert_eq!(*word, u32::from(expected[0]) | u32::from(expected[1]) << 16, "{x:?}");
            }
        }
    }
}
