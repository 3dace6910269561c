//! Block formats on AVX-512: how 512 weights of a row become bytes and factors in registers.
//!
//! A group is 16 blocks of 32 weights. `quants(group, i)` gives blocks `2 i` and `2 i + 1` as unsigned bytes in order,
//! each `2^ZERO` too large where the format is signed; `factors(group)` gives what `block.rs` calls scale, min, sub and
//! sub_min of the 16 blocks, one lane each. Both read nothing outside the group.

use std::arch::x86_64::*;

use super::super::block::{E2M1_DOUBLED, Form, q3k_scales};

/// What multiplies the integers of 16 blocks; a lane is a block. Fields that the format lacks are zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    pub(super) scale: __m512,
    pub(super) min: __m512,
    /// Two `i16`, one for each half of the block.
    pub(super) sub: __m512i,
    /// Two `i16`, one for each half of the block.
    pub(super) sub_min: __m512i,
}

/// A block format.
pub(super) trait Format {
    /// Bytes of 512 weights.
    const GROUP_BYTES: usize;
    /// Log₂ of what the unsigned bytes are too large by; `None` for formats without a zero point.
    const ZERO: Option<u32>;
    /// Which factors there are.
    const FORM: Form;

    /// Blocks `2 i` and `2 i + 1` of the group.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn quants(group: &[u8], i: usize) -> __m512i;

    /// The factors of the group's blocks.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn factors(group: &[u8]) -> Factors;
}

const PLAIN: Form = Form { min: false, sub: false, sub_min: false, lift: 0 };
const MIN: Form = Form { min: true, ..PLAIN };
const SUB: Form = Form { sub: true, ..PLAIN };

pub(super) struct Q4_0;
pub(super) struct Q4_1;
pub(super) struct Q5_0;
pub(super) struct Q5_1;
pub(super) struct Q8_0;
pub(super) struct Affine8;
pub(super) struct Mxfp4;
pub(super) struct Q2K;
pub(super) struct Q3K;
pub(super) struct Q4K;
pub(super) struct Q5K;
pub(super) struct Q6K;

/// 64 bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load64(bytes: &[u8], at: usize) -> __m512i {
    let bytes = &bytes[at..at + 64];
    // SAFETY: the slice has 64 bytes; the load has no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// 32 bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load32(bytes: &[u8], at: usize) -> __m256i {
    let bytes = &bytes[at..at + 32];
    // SAFETY: the slice has 32 bytes; the load has no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes at `at`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn load16(bytes: &[u8], at: usize) -> __m128i {
    let bytes = &bytes[at..at + 16];
    // SAFETY: the slice has 16 bytes; the load has no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The low nibbles of 16 bytes, then the high ones, for two blocks whose bytes begin at `a` and `b`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn nibbles16(group: &[u8], a: usize, b: usize) -> __m512i {
    let both =
        _mm512_mask_broadcast_i32x4(_mm512_broadcast_i32x4(load16(group, a)), 0xff00, load16(group, b));
    let shifts = _mm512_set_epi64(4, 4, 0, 0, 4, 4, 0, 0);
    _mm512_and_si512(_mm512_srlv_epi64(both, shifts), _mm512_set1_epi8(15))
}

/// 32 bytes in both halves, the lower shifted right by `low` bits, the upper by `high`. Bits of neighbouring bytes
/// come in from above; the caller masks.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn shifted32(group: &[u8], at: usize, low: i64, high: i64) -> __m512i {
    let both = _mm512_broadcast_i64x4(load32(group, at));
    _mm512_srlv_epi64(both, _mm512_set_epi64(high, high, high, high, low, low, low, low))
}

/// Which of 32 bytes have bit `low` set, then which have bit `high`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn bits32(group: &[u8], at: usize, low: usize) -> __mmask64 {
    let both = _mm512_broadcast_i64x4(load32(group, at));
    let (lower, upper) = (_mm512_set1_epi8(1 << low), _mm512_set1_epi8((2_u8 << low) as i8));
    _mm512_test_epi8_mask(both, _mm512_mask_blend_epi64(0xf0, lower, upper))
}

/// The words at `stride * lane + offset`, for 16 lanes, of a group of `stride * 16` words: by one permutation of every 32
/// words, which costs a third of as many scalar loads.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn words<const STRIDE: usize>(group: &[u8]) -> __m256i {
    let mut index = [0_u16; 32];
    for (lane, index) in index.iter_mut().take(16).enumerate() {
        *index = (lane * STRIDE % 32) as u16;
    }
    // SAFETY: an array of 64 bytes.
    let index = unsafe { _mm512_loadu_si512(index.as_ptr().cast()) };
    let mut out = _mm512_setzero_si512();
    for chunk in 0..(STRIDE * 16).div_ceil(32) {
        let mut mask = 0_u32;
        for lane in 0..16 {
            mask |= u32::from(lane * STRIDE / 32 == chunk) << lane;
        }
        let at = chunk * 64;
        let words = if at + 64 <= STRIDE * 32 {
            load64(group, at)
        } else {
            _mm512_castsi256_si512(load32(group, at))
        };
        out = _mm512_mask_permutexvar_epi16(out, mask, index, words);
    }
    _mm512_castsi512_si256(out)
}

/// The double words at `stride * lane`, for 16 lanes, of a group of `stride * 16`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dwords<const STRIDE: usize>(group: &[u8]) -> __m512i {
    let mut index = [0_u32; 16];
    for (lane, index) in index.iter_mut().enumerate() {
        *index = (lane * STRIDE % 16) as u32;
    }
    // SAFETY: an array of 64 bytes.
    let index = unsafe { _mm512_loadu_si512(index.as_ptr().cast()) };
    let mut out = _mm512_setzero_si512();
    for chunk in 0..STRIDE {
        let mut mask = 0_u16;
        for lane in 0..16 {
            mask |= u16::from(lane * STRIDE / 16 == chunk) << lane;
        }
        out = _mm512_mask_permutexvar_epi32(out, mask, index, load64(group, chunk * 64));
    }
    out
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scale_only(scale: __m512) -> Factors {
    let zero = _mm512_setzero_si512();
    Factors { scale, min: _mm512_setzero_ps(), sub: zero, sub_min: zero }
}

/// Scale in the low and minimum in the high half of each lane, as `f16`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scale_and_min(pairs: __m512i) -> Factors {
    let scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
    let min = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(pairs)));
    Factors { min, ..scale_only(scale) }
}

/// The `f16` pairs at `at` of two superblocks `stride` apart: the first elements, then the second, one superblock in
/// the lower eight lanes and one in the upper.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn super_pairs(group: &[u8], at: usize, stride: usize) -> (__m512, __m512) {
    let halves = _mm_set_epi32(0, 0, dword(group, at + stride) as i32, dword(group, at) as i32);
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

impl Format for Q4_0 {
    const GROUP_BYTES: usize = 18 * 16;
    const ZERO: Option<u32> = Some(3);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        nibbles16(group, 36 * i + 2, 36 * i + 20)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_only(_mm512_cvtph_ps(words::<9>(group)))
    }
}

impl Format for Q4_1 {
    const GROUP_BYTES: usize = 20 * 16;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        nibbles16(group, 40 * i + 4, 40 * i + 24)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_and_min(dwords::<5>(group))
    }
}

/// Adds the fifth bits of two blocks, stored at `a` and `b`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn with_fifth_bits(group: &[u8], a: usize, b: usize, low: __m512i) -> __m512i {
    let mask = u64::from(dword(group, a)) | u64::from(dword(group, b)) << 32;
    _mm512_mask_add_epi8(low, mask, low, _mm512_set1_epi8(16))
}

impl Format for Q5_0 {
    const GROUP_BYTES: usize = 22 * 16;
    const ZERO: Option<u32> = Some(4);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        with_fifth_bits(group, 44 * i + 2, 44 * i + 24, nibbles16(group, 44 * i + 6, 44 * i + 28))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_only(_mm512_cvtph_ps(words::<11>(group)))
    }
}

impl Format for Q5_1 {
    const GROUP_BYTES: usize = 24 * 16;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        with_fifth_bits(group, 48 * i + 4, 48 * i + 28, nibbles16(group, 48 * i + 8, 48 * i + 32))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_and_min(dwords::<6>(group))
    }
}

/// Two runs of 32 bytes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn two32(group: &[u8], a: usize, b: usize) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load32(group, a)), load32(group, b))
}

impl Format for Q8_0 {
    const GROUP_BYTES: usize = 34 * 16;
    const ZERO: Option<u32> = Some(7);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        _mm512_xor_si512(two32(group, 68 * i + 2, 68 * i + 36), _mm512_set1_epi8(-128))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_only(_mm512_cvtph_ps(words::<17>(group)))
    }
}

impl Format for Affine8 {
    const GROUP_BYTES: usize = 36 * 16;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        two32(group, 72 * i + 4, 72 * i + 40)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_and_min(dwords::<9>(group))
    }
}

impl Format for Mxfp4 {
    const GROUP_BYTES: usize = 17 * 16;
    const ZERO: Option<u32> = Some(4);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        let table = E2M1_DOUBLED.map(|v| v + 16);
        // SAFETY: an array of 16 bytes.
        let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles16(group, 34 * i + 1, 34 * i + 18))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        let exponents: [u8; 16] = std::array::from_fn(|lane| group[17 * lane]);
        let exponent = _mm512_cvtepu8_epi32(load16(&exponents, 0));
        let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponent, _mm512_set1_epi32(1)));
        let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponent);
        let is_normal = _mm512_cmpgt_epi32_mask(exponent, _mm512_set1_epi32(1));
        scale_only(_mm512_castsi512_ps(_mm512_mask_blend_epi32(is_normal, subnormal, normal)))
    }
}

impl Format for Q2K {
    const GROUP_BYTES: usize = 84 * 2;
    const ZERO: Option<u32> = None;
    const FORM: Form = Form { min: true, sub: true, sub_min: true, lift: 0 };

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        let shift = 4 * (i % 2) as i64;
        let two_bits = shifted32(group, 84 * (i / 4) + 16 + 32 * (i % 4 / 2), shift, shift + 2);
        _mm512_and_si512(two_bits, _mm512_set1_epi8(3))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        let packed = _mm256_set_m128i(load16(group, 84), load16(group, 0));
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
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        let (block, shift) = (110 * (i / 4), 4 * (i % 2) as i64);
        let two_bits = shifted32(group, block + 32 + 32 * (i % 4 / 2), shift, shift + 2);
        let low = _mm512_and_si512(two_bits, _mm512_set1_epi8(3));
        _mm512_mask_add_epi8(low, bits32(group, block, 2 * (i % 4)), low, _mm512_set1_epi8(4))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        let mut scales = [0; 32];
        scales[..16].copy_from_slice(&q3k_scales(&group[96..108]));
        scales[16..].copy_from_slice(&q3k_scales(&group[206..218]));
        let wide = _mm512_cvtepu8_epi16(load32(&scales, 0));
        let sub = _mm512_sub_epi16(wide, _mm512_set1_epi16(32));
        Factors { sub, ..scale_only(super_scale(group, 110)) }
    }
}

/// The 6-bit scales, then the minima, of the superblock at `at`, one a byte.
#[inline]
fn q4k_bytes(group: &[u8], at: usize) -> (u64, u64) {
    let (a, b, c) = (dword(group, at), dword(group, at + 4), dword(group, at + 8));
    let scales_high = c & 0x0f0f_0f0f | a >> 2 & 0x3030_3030;
    let mins_high = c >> 4 & 0x0f0f_0f0f | b >> 2 & 0x3030_3030;
    let join = |low: u32, high: u32| u64::from(low & 0x3f3f_3f3f) | u64::from(high) << 32;
    (join(a, scales_high), join(b, mins_high))
}

/// Factors of Q4_K and Q5_K, whose superblocks of `stride` bytes begin alike.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn q45k_factors(group: &[u8], stride: usize) -> Factors {
    let ((scales0, mins0), (scales1, mins1)) = (q4k_bytes(group, 4), q4k_bytes(group, stride + 4));
    let float = |a: u64, b: u64| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_set_epi64x(b as i64, a as i64)));
    let (d, dmin) = super_pairs(group, 0, stride);
    let min = _mm512_mul_ps(_mm512_xor_ps(dmin, _mm512_set1_ps(-0.0)), float(mins0, mins1));
    Factors { min, ..scale_only(_mm512_mul_ps(d, float(scales0, scales1))) }
}

impl Format for Q4K {
    const GROUP_BYTES: usize = 144 * 2;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        let nibbles = shifted32(group, 144 * (i / 4) + 16 + 32 * (i % 4), 0, 4);
        _mm512_and_si512(nibbles, _mm512_set1_epi8(15))
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
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        let block = 176 * (i / 4);
        let nibbles = shifted32(group, block + 48 + 32 * (i % 4), 0, 4);
        let low = _mm512_and_si512(nibbles, _mm512_set1_epi8(15));
        _mm512_mask_add_epi8(low, bits32(group, block + 16, 2 * (i % 4)), low, _mm512_set1_epi8(16))
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
    unsafe fn quants(group: &[u8], i: usize) -> __m512i {
        let (block, half) = (210 * (i / 4), i % 4 / 2);
        let low = load64(group, block + 64 * half);
        let high = _mm512_broadcast_i64x4(load32(group, block + 128 + 32 * half));
        // Blocks 0 and 1 of the half have their upper bits at 0 and 2, blocks 2 and 3 at 4 and 6: move them to 4.
        let (low, high) = if i.is_multiple_of(2) {
            (low, _mm512_sllv_epi64(high, _mm512_set_epi64(2, 2, 2, 2, 4, 4, 4, 4)))
        } else {
            (_mm512_srli_epi64::<4>(low), _mm512_srlv_epi64(high, _mm512_set_epi64(2, 2, 2, 2, 0, 0, 0, 0)))
        };
        let low = _mm512_and_si512(low, _mm512_set1_epi8(15));
        // (high & 0x30) | low
        _mm512_ternarylogic_epi64::<0xea>(high, _mm512_set1_epi8(0x30), low)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        let scales = _mm256_set_m128i(load16(group, 210 + 192), load16(group, 192));
        Factors { sub: _mm512_cvtepi8_epi16(scales), ..scale_only(super_scale(group, 210)) }
    }
}
