//! Preparation of activations on AVX-512: int8 blocks (turned, see `turn.rs`) and pairs of `bf16`.

use std::arch::x86_64::*;

use super::super::block::BLOCK;
use super::super::input::{GROUP, Group};
use super::store;
use super::turn::{transpose, turn};

/// Quantises a row, a group at a time; see `input.rs` for what it computes.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(in super::super) unsafe fn quantise(x: &[f32], row: &mut [Group]) {
    for (x, group) in x.chunks(GROUP * BLOCK).zip(row) {
        let mut padded = [0.0; GROUP * BLOCK];
        let x: &[f32; GROUP * BLOCK] = match x.try_into() {
            Ok(x) => x,
            Err(_) => {
                padded[..x.len()].copy_from_slice(x);
                &padded
            }
        };
        let max = block_maxima(x);
        let nonzero = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(max, _mm512_setzero_ps());
        let inverse = _mm512_maskz_div_ps(nonzero, _mm512_set1_ps(127.0), max);
        let mut inverses = [0; GROUP];
        store(&mut inverses, _mm512_castps_si512(inverse));
        let turned = turn(std::array::from_fn(|j| two_blocks(x, j / 4 * 8 + j % 4, &inverses)));
        for (q, turned) in group.q.iter_mut().zip(turned) {
            store(q, turned);
        }

        let block_scale = _mm512_div_ps(max, _mm512_set1_ps(127.0));
        let half = |registers: &[__m512i]| {
            let add = |sum, q: &__m512i| _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), *q);
            registers.iter().fold(_mm512_setzero_si512(), add)
        };
        let (first, second) = (half(&turned[..4]), half(&turned[4..]));
        let sum = _mm512_cvtepi32_ps(_mm512_add_epi32(first, second));
        store(&mut group.scale, _mm512_castps_si512(block_scale));
        store(&mut group.scaled_sum, _mm512_castps_si512(_mm512_mul_ps(block_scale, sum)));
        let low = _mm512_and_si512(first, _mm512_set1_epi32(0xffff));
        store(&mut group.sums, _mm512_or_si512(low, _mm512_slli_epi32::<16>(second)));
    }
}

/// The largest magnitude of each block. As integers magnitudes order like the floats, with NaN on top.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn block_maxima(x: &[f32; GROUP * BLOCK]) -> __m512 {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let halves = |b: usize| {
        let at = |half: usize| {
            let x = &x[b * BLOCK + half * 16..][..16];
            // SAFETY: the slice has 16 floats.
            _mm512_and_si512(unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }, magnitude)
        };
        _mm512_max_epi32(at(0), at(1))
    };
    let columns = transpose(halves);
    let mut max = columns[0];
    for column in &columns[1..] {
        max = _mm512_max_epi32(max, *column);
    }
    _mm512_castsi512_ps(max)
}

/// The integers of blocks `b` and `b + 4`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn two_blocks(x: &[f32; GROUP * BLOCK], b: usize, inverses: &[u32; GROUP]) -> __m512i {
    let words = |b: usize| {
        let inverse = _mm512_castsi512_ps(_mm512_set1_epi32(inverses[b] as i32));
        let round = |half: usize| {
            let x = &x[b * BLOCK + half * 16..][..16];
            // SAFETY: the slice has 16 floats.
            _mm512_cvtps_epi32(_mm512_mul_ps(unsafe { _mm512_loadu_ps(x.as_ptr()) }, inverse))
        };
        _mm512_packs_epi32(round(0), round(1))
    };
    // Packing works within 16 bytes: these hold one double word of each half of each block.
    let packed = _mm512_packs_epi16(words(b), words(b + 4));
    let order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    _mm512_permutexvar_epi32(order, packed)
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
