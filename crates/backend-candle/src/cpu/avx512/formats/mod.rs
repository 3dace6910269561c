//! Block formats on AVX-512: how 512 weights of a row become bytes and factors in registers.
//!
//! A group is 16 blocks of 32 weights. [`Format::turned`] gives its weights as unsigned bytes, turned (see `turn.rs`):
//! lane `b` of register `i` holds weights `4 i .. 4 i + 4` of block `b`. Where that saves a shift of bytes, a lane's
//! bytes are left some bits too high, all of them alike; [`Format::SHIFT`] says how many, and integer sums are exact
//! before and after they are shifted down. Signed formats are `2^ZERO` too large on top.
//!
//! [`Format::factors`] gives what `block.rs` calls scale, min, sub and sub_min, lane `b` for block `b`. Both read
//! nothing outside the group.

mod blocks;
mod superblocks;

use std::arch::x86_64::*;

use super::super::block::Form;
use super::super::input::Line;
use super::turn::Turned;

pub(super) use blocks::{Affine8, Mxfp4, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
pub(super) use superblocks::{Q2K, Q3K, Q4K, Q5K, Q6K};

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
    /// Log₂ of what the unsigned weights are too large by; `None` for formats without a zero point.
    const ZERO: Option<u32>;
    /// Which factors there are.
    const FORM: Form;
    /// Bits by which the lanes of registers 0–3, and of registers 4–7, are too high.
    const SHIFT: [Line; 2] = [[0; 16]; 2];

    /// The weights of the group.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn turned(group: &[u8]) -> Turned;

    /// The factors of the group's blocks.
    ///
    /// # Safety
    /// The processor has the features.
    unsafe fn factors(group: &[u8]) -> Factors;
}

const PLAIN: Form = Form { min: false, sub: false, sub_min: false, lift: 0, zero: None };
const MIN: Form = Form { min: true, ..PLAIN };
const SUB: Form = Form { sub: true, ..PLAIN };

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

/// Two runs of 32 bytes.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn two32(bytes: &[u8], a: usize, b: usize) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(load32(bytes, a)), load32(bytes, b))
}

fn dword(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The bytes of `v` and `mask`, every one.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn and(v: __m512i, mask: u8) -> __m512i {
    _mm512_and_si512(v, _mm512_set1_epi8(mask as i8))
}

#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn scale_only(scale: __m512) -> Factors {
    let zero = _mm512_setzero_si512();
    Factors { scale, min: _mm512_setzero_ps(), sub: zero, sub_min: zero }
}
