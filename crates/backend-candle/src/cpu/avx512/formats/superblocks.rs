//! Formats of superblocks: 256 weights, 8 blocks, with scales of scales. A group is two of them.
//!
//! Registers are filled for [`turn`]: register `k` (of four to a superblock) with block `k` below and block `4 + k`
//! above.

use std::arch::x86_64::*;

use super::super::super::block::Form;
use super::super::super::input::Line;
use super::super::turn::{Turned, turn};
use super::{Factors, Format, MIN, SUB, and, dword, load16, load32, load64, scale_only, two32};

pub(in super::super) struct Q2K;
pub(in super::super) struct Q3K;
pub(in super::super) struct Q4K;
pub(in super::super) struct Q5K;
pub(in super::super) struct Q6K;

/// The `f16` pairs at `at` of two superblocks `stride` apart: the first elements, then the second, one superblock in
/// the lower eight lanes and one in the upper.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn super_pairs(group: &[u8], at: usize, stride: usize) -> (__m512, __m512) {
    let halves = _mm_set_epi32(0, 0, dword(group, at + stride), dword(group, at));
    let four = _mm512_castps128_ps512(_mm_cvtph_ps(halves));
    let first = _mm512_set_epi32(2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0);
    let second = _mm512_or_si512(first, _mm512_set1_epi32(1));
    (_mm512_permutexvar_ps(first, four), _mm512_permutexvar_ps(second, four))
}

/// The `f16` at the end of each of two superblocks of `stride` bytes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn super_scale(group: &[u8], stride: usize) -> __m512 {
    // The upper half of the last four bytes.
    super_pairs(group, stride - 4, stride).1
}

/// Turns two superblocks of `stride` bytes, unpacked by `unpack`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn turned_superblocks(group: &[u8], stride: usize, unpack: impl Fn(&[u8]) -> [__m512i; 4]) -> Turned {
    let ([a, b, c, d], [e, f, g, h]) = (unpack(&group[..stride]), unpack(&group[stride..2 * stride]));
    turn([a, b, c, d, e, f, g, h])
}

/// Adds `value` to the bytes whose bit `low` (in the lower half) or `low + 4` (in the upper half) of `bits` is set.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn add_where(v: __m512i, bits: __m512i, low: usize, value: i8) -> __m512i {
    let (lower, upper) = (_mm512_set1_epi8(1 << low), _mm512_set1_epi8((16_u8 << low) as i8));
    let mask = _mm512_test_epi8_mask(bits, _mm512_mask_blend_epi64(0xf0, lower, upper));
    _mm512_mask_add_epi8(v, mask, v, _mm512_set1_epi8(value))
}

/// The same 16 bytes of two superblocks `stride` apart.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn both16(group: &[u8], at: usize, stride: usize) -> __m256i {
    _mm256_set_m128i(load16(group, at + stride), load16(group, at))
}

/// Factors of Q4_K and Q5_K, whose superblocks of `stride` bytes begin alike: two `f16`, then twelve bytes that hold
/// eight scales and eight minima of six bits.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q45k_factors(group: &[u8], stride: usize) -> Factors {
    let head = both16(group, 0, stride);
    // Words 1, 2 and 3 are a, b and c. Scales 0–3 are the low six bits of a's bytes, minima 0–3 those of b's; scales
    // 4–7 are the low and minima 4–7 the high nibbles of c, under the two upper bits of a and of b.
    let acbc = _mm256_shuffle_epi32::<0b11_10_11_01>(head);
    let acbc = _mm256_srlv_epi32(acbc, _mm256_set_epi32(4, 0, 0, 0, 4, 0, 0, 0));
    let low = _mm256_and_si256(acbc, _mm256_set1_epi64x(0x0f0f_0f0f_3f3f_3f3f));
    let ab = _mm256_srli_epi32::<2>(_mm256_shuffle_epi32::<0b10_00_01_00>(head));
    let high = _mm256_and_si256(ab, _mm256_set1_epi64x(0x3030_3030_0000_0000));
    let scales_and_mins = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_or_si256(low, high));
    let float = |bytes: __m128i| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    let (d, dmin) = super_pairs(group, 0, stride);
    let scale = _mm512_mul_ps(d, float(_mm256_castsi256_si128(scales_and_mins)));
    let min = _mm512_mul_ps(dmin, float(_mm256_extracti128_si256::<1>(scales_and_mins)));
    Factors { min: _mm512_xor_ps(min, _mm512_set1_ps(-0.0)), ..scale_only(scale) }
}

impl Format for Q2K {
    const GROUP_BYTES: usize = 84 * 2;
    const ZERO: Option<u32> = None;
    const FORM: Form = Form { min: true, sub_min: true, ..SUB };
    const SHIFT: [Line; 2] = [[0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6]; 2];

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_superblocks(group, 84, |sb| {
            let q = load64(sb, 16);
            [and(q, 3), and(q, 12), and(q, 48), and(q, 192)]
        })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        let packed = both16(group, 0, 84);
        let wide = _mm512_cvtepu8_epi16(packed);
        let (scale, min) = super_pairs(group, 80, 84);
        Factors {
            scale,
            min: _mm512_xor_ps(min, _mm512_set1_ps(-0.0)),
            sub: _mm512_and_si512(wide, _mm512_set1_epi16(15)),
            sub_min: _mm512_srli_epi16::<4>(wide),
        }
    }
}

impl Format for Q3K {
    const GROUP_BYTES: usize = 110 * 2;
    const ZERO: Option<u32> = Some(2);
    const FORM: Form = SUB;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_superblocks(group, 110, |sb| {
            let (high, q) = (_mm512_broadcast_i64x4(load32(sb, 0)), load64(sb, 32));
            let add = |k: usize, v: __m512i| add_where(and(v, 3), high, k, 4);
            [
                add(0, q),
                add(1, _mm512_srli_epi16::<2>(q)),
                add(2, _mm512_srli_epi16::<4>(q)),
                add(3, _mm512_srli_epi16::<6>(q)),
            ]
        })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        // Four low bits of sixteen scales in eight bytes, then their upper two bits in four; from byte 96 on, two bytes
        // too far to read sixteen.
        let packed = _mm256_bsrli_epi128::<2>(both16(group, 94, 110));
        let low = _mm256_srlv_epi64(
            _mm256_permute4x64_epi64::<0b10_10_00_00>(packed),
            _mm256_set_epi64x(4, 0, 4, 0),
        );
        let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
        let high = _mm256_shuffle_epi32::<0b10_10_10_10>(packed);
        let high = _mm256_srlv_epi32(high, _mm256_set_epi32(6, 4, 2, 0, 6, 4, 2, 0));
        let high = _mm256_slli_epi16::<4>(_mm256_and_si256(high, _mm256_set1_epi8(3)));
        let wide = _mm512_cvtepu8_epi16(_mm256_or_si256(low, high));
        let sub = _mm512_sub_epi16(wide, _mm512_set1_epi16(32));
        Factors { sub, ..scale_only(super_scale(group, 110)) }
    }
}

impl Format for Q4K {
    const GROUP_BYTES: usize = 144 * 2;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;
    /// Odd blocks are high nibbles.
    const SHIFT: [Line; 2] = [[0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4]; 2];

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_superblocks(group, 144, |sb| {
            let (even, odd) = (two32(sb, 16, 80), two32(sb, 48, 112));
            [and(even, 15), and(even, 240), and(odd, 15), and(odd, 240)]
        })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        q45k_factors(group, 144)
    }
}

impl Format for Q5K {
    const GROUP_BYTES: usize = 176 * 2;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_superblocks(group, 176, |sb| {
            let (even, odd) = (two32(sb, 48, 112), two32(sb, 80, 144));
            let high = _mm512_broadcast_i64x4(load32(sb, 16));
            let add = |k: usize, v: __m512i| add_where(and(v, 15), high, k, 16);
            [
                add(0, even),
                add(1, _mm512_srli_epi16::<4>(even)),
                add(2, odd),
                add(3, _mm512_srli_epi16::<4>(odd)),
            ]
        })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        q45k_factors(group, 176)
    }
}

impl Format for Q6K {
    const GROUP_BYTES: usize = 210 * 2;
    const ZERO: Option<u32> = Some(5);
    const FORM: Form = SUB;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_superblocks(group, 210, |sb| {
            let (even, odd, high) = (two32(sb, 0, 64), two32(sb, 32, 96), load64(sb, 128));
            // (high & 0x30) | (low & 15)
            let join = |low: __m512i, high: __m512i| {
                _mm512_ternarylogic_epi64::<0xea>(high, _mm512_set1_epi8(0x30), and(low, 15))
            };
            [
                join(even, _mm512_slli_epi16::<4>(high)),
                join(odd, _mm512_slli_epi16::<2>(high)),
                join(_mm512_srli_epi16::<4>(even), high),
                join(_mm512_srli_epi16::<4>(odd), _mm512_srli_epi16::<2>(high)),
            ]
        })
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        Factors { sub: _mm512_cvtepi8_epi16(both16(group, 192, 210)), ..scale_only(super_scale(group, 210)) }
    }
}
