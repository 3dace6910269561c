//! Formats whose blocks of 32 weights have factors of their own.

use std::arch::x86_64::*;

use super::super::super::block::{E2M1_DOUBLED, Form};
use super::super::super::input::Line;
use super::super::turn::{Turned, turn};
use super::{Factors, Format, MIN, PLAIN, and, load16, load32, load64, scale_only, two32};

pub(in super::super) struct Q4_0;
pub(in super::super) struct Q4_1;
pub(in super::super) struct Q5_0;
pub(in super::super) struct Q5_1;
pub(in super::super) struct Q8_0;
pub(in super::super) struct Affine8;
pub(in super::super) struct Mxfp4;

/// 16 bytes of each of 16 blocks `stride` apart, from `offset` on, turned: lane `b` of register `i` is the `i`th double
/// word of block `b`'s.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn turned16(group: &[u8], stride: usize, offset: usize) -> [__m512i; 4] {
    let four = |k: usize| {
        let block = |b: usize| load16(group, b * stride + offset);
        let two = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(block(k)), block(4 + k));
        _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(two, block(8 + k)), block(12 + k))
    };
    let [a, b, c, d] = [four(0), four(1), four(2), four(3)];
    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
    let (first, second) = (_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
    [first, second, _mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd)]
}

/// Nibbles of 16 bytes to a block: the low ones are its first half, the high ones, left where they are, its second.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn turned_nibbles(group: &[u8], stride: usize, offset: usize) -> Turned {
    let [a, b, c, d] = turned16(group, stride, offset);
    [and(a, 15), and(b, 15), and(c, 15), and(d, 15), and(a, 240), and(b, 240), and(c, 240), and(d, 240)]
}

/// Which blocks register `j` holds before it is turned; see [`turn`].
const fn blocks_of(j: usize) -> (usize, usize) {
    (j / 4 * 8 + j % 4, j / 4 * 8 + j % 4 + 4)
}

/// 32 bytes of each of 16 blocks `stride` apart, from `offset` on, turned.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn turned32(group: &[u8], stride: usize, offset: usize) -> Turned {
    turn(std::array::from_fn(|j| {
        let (a, b) = blocks_of(j);
        two32(group, a * stride + offset, b * stride + offset)
    }))
}

/// Nibbles at `offset` of each block, turned, with the fifth bits in `fifth`, a block to a lane.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn turned_five_bits(group: &[u8], stride: usize, offset: usize, fifth: __m512i) -> Turned {
    let [a, b, c, d] = turned16(group, stride, offset);
    let high = |v| and(_mm512_srli_epi16::<4>(v), 15);
    let low = [and(a, 15), and(b, 15), and(c, 15), and(d, 15), high(a), high(b), high(c), high(d)];
    // Four bits are the index (of which a permutation looks at no more) of the four bytes they belong to.
    let bytes: [u32; 16] =
        std::array::from_fn(|bits| (0..4).fold(0, |word, i| word | ((bits as u32 >> i & 1) << (8 * i + 4))));
    // SAFETY: an array of 64 bytes.
    let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    let mut fifth = fifth;
    low.map(|low| {
        let with = _mm512_or_si512(low, _mm512_permutexvar_epi32(fifth, bytes));
        fifth = _mm512_srli_epi32::<4>(fifth);
        with
    })
}

/// Where bytes `STRIDE * lane + OFFSET` of a group begin for its 16 lanes, counted in units of `UNIT` bytes, for one
/// permutation of each 64 bytes. That costs a third of as many scalar loads.
struct Gather<const UNIT: usize, const STRIDE: usize, const OFFSET: usize>;

impl<const UNIT: usize, const STRIDE: usize, const OFFSET: usize> Gather<UNIT, STRIDE, OFFSET> {
    /// 64 bytes' worth of units.
    const UNITS: usize = 64 / UNIT;

    /// How many times 64 bytes the lanes reach into.
    const CHUNKS: usize = Self::unit(15) / Self::UNITS + 1;

    /// For each lane, which unit of its 64 bytes.
    const INDEX: [u16; 16] = {
        let mut index = [0; 16];
        let mut lane = 0;
        while lane < 16 {
            index[lane] = (Self::unit(lane) % Self::UNITS) as u16;
            lane += 1;
        }
        index
    };

    /// For each 64 bytes, which lanes.
    const LANES: [u16; 16] = {
        let mut lanes = [0; 16];
        let mut lane = 0;
        while lane < 16 {
            lanes[Self::unit(lane) / Self::UNITS] |= 1 << lane;
            lane += 1;
        }
        lanes
    };

    const fn unit(lane: usize) -> usize {
        (lane * STRIDE + OFFSET) / UNIT
    }

    /// 64 bytes number `chunk` of the group, or the last 32 of it.
    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn chunk(group: &[u8], chunk: usize) -> __m512i {
        if (chunk + 1) * 64 <= STRIDE * 16 {
            load64(group, chunk * 64)
        } else {
            _mm512_castsi256_si512(load32(group, chunk * 64))
        }
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    fn index() -> __m256i {
        // SAFETY: an array of 32 bytes.
        unsafe { _mm256_loadu_si256(Self::INDEX.as_ptr().cast()) }
    }
}

/// The words in which bytes `STRIDE * lane + OFFSET` lie.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn words<const STRIDE: usize, const OFFSET: usize>(group: &[u8]) -> __m256i {
    let index = _mm512_castsi256_si512(Gather::<2, STRIDE, OFFSET>::index());
    let mut out = _mm512_setzero_si512();
    for chunk in 0..Gather::<2, STRIDE, OFFSET>::CHUNKS {
        let lanes = u32::from(Gather::<2, STRIDE, OFFSET>::LANES[chunk]);
        let words = Gather::<2, STRIDE, OFFSET>::chunk(group, chunk);
        out = _mm512_mask_permutexvar_epi16(out, lanes, index, words);
    }
    _mm512_castsi512_si256(out)
}

/// The double words at bytes `STRIDE * lane + OFFSET`, multiples of four.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn dwords<const STRIDE: usize, const OFFSET: usize>(group: &[u8]) -> __m512i {
    let index = _mm512_cvtepu16_epi32(Gather::<4, STRIDE, OFFSET>::index());
    let mut out = _mm512_setzero_si512();
    for chunk in 0..Gather::<4, STRIDE, OFFSET>::CHUNKS {
        let lanes = Gather::<4, STRIDE, OFFSET>::LANES[chunk];
        let dwords = Gather::<4, STRIDE, OFFSET>::chunk(group, chunk);
        out = _mm512_mask_permutexvar_epi32(out, lanes, index, dwords);
    }
    out
}

/// Scale in the low and minimum in the high half of each lane, as `f16`.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scale_and_min(pairs: __m512i) -> Factors {
    let scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs));
    let min = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(pairs)));
    Factors { min, ..scale_only(scale) }
}

impl Format for Q4_0 {
    const GROUP_BYTES: usize = 18 * 16;
    const ZERO: Option<u32> = Some(3);
    const FORM: Form = PLAIN;
    const SHIFT: [Line; 2] = [[0; 16], [4; 16]];

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_nibbles(group, 18, 2)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_only(_mm512_cvtph_ps(words::<18, 0>(group)))
    }
}

impl Format for Q4_1 {
    const GROUP_BYTES: usize = 20 * 16;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;
    const SHIFT: [Line; 2] = [[0; 16], [4; 16]];

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_nibbles(group, 20, 4)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_and_min(dwords::<20, 0>(group))
    }
}

impl Format for Q5_0 {
    const GROUP_BYTES: usize = 22 * 16;
    const ZERO: Option<u32> = Some(4);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        let half = |words: __m256i| _mm512_cvtepu16_epi32(words);
        let (low, high) = (half(words::<22, 2>(group)), half(words::<22, 4>(group)));
        turned_five_bits(group, 22, 6, _mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_only(_mm512_cvtph_ps(words::<22, 0>(group)))
    }
}

impl Format for Q5_1 {
    const GROUP_BYTES: usize = 24 * 16;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned_five_bits(group, 24, 8, dwords::<24, 4>(group))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_and_min(dwords::<24, 0>(group))
    }
}

impl Format for Q8_0 {
    const GROUP_BYTES: usize = 34 * 16;
    const ZERO: Option<u32> = Some(7);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned32(group, 34, 2).map(|q| _mm512_xor_si512(q, _mm512_set1_epi8(-128)))
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_only(_mm512_cvtph_ps(words::<34, 0>(group)))
    }
}

impl Format for Affine8 {
    const GROUP_BYTES: usize = 36 * 16;
    const ZERO: Option<u32> = None;
    const FORM: Form = MIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        turned32(group, 36, 4)
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        scale_and_min(dwords::<36, 0>(group))
    }
}

impl Format for Mxfp4 {
    const GROUP_BYTES: usize = 17 * 16;
    const ZERO: Option<u32> = Some(4);
    const FORM: Form = PLAIN;

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn turned(group: &[u8]) -> Turned {
        let table = E2M1_DOUBLED.map(|v| v + 16);
        // SAFETY: an array of 16 bytes.
        let table = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(table.as_ptr().cast()) });
        let [a, b, c, d] = turned16(group, 17, 1);
        let low = |v| _mm512_shuffle_epi8(table, and(v, 15));
        let high = |v| _mm512_shuffle_epi8(table, and(_mm512_srli_epi16::<4>(v), 15));
        [low(a), low(b), low(c), low(d), high(a), high(b), high(c), high(d)]
    }

    #[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn factors(group: &[u8]) -> Factors {
        // Blocks of 17 bytes begin in the lower and in the upper byte of a word by turns.
        let words = _mm512_cvtepu16_epi32(words::<17, 0>(group));
        let shift = _mm512_set_epi32(8, 0, 8, 0, 8, 0, 8, 0, 8, 0, 8, 0, 8, 0, 8, 0);
        let exponent = _mm512_and_si512(_mm512_srlv_epi32(words, shift), _mm512_set1_epi32(255));
        let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponent, _mm512_set1_epi32(1)));
        let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponent);
        let is_normal = _mm512_cmpgt_epi32_mask(exponent, _mm512_set1_epi32(1));
        scale_only(_mm512_castsi512_ps(_mm512_mask_blend_epi32(is_normal, subnormal, normal)))
    }
}
