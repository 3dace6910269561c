//! Turning registers: which lane holds what.
//!
//! A group is 16 blocks of 32 bytes. Turned, register `i` holds the `i`th double word (four bytes) of all 16 blocks,
//! lane `b` that of block `b`.

use std::arch::x86_64::*;

/// A group, turned.
pub(super) type Turned = [__m512i; 8];

/// Turns a group. Register `4 q + k` of the argument holds block `8 q + k` in its lower half and `8 q + 4 + k` in the
/// upper.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn turn(blocks: [__m512i; 8]) -> Turned {
    let zero = _mm512_setzero_si512();
    // Within each 16 bytes: `fours[q][k]` has double word `k` (of the four in these 16 bytes) of registers `4 q ..`.
    let mut fours = [[zero; 4]; 2];
    for q in 0..2 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|j| blocks[4 * q + j]);
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        fours[q][0] = _mm512_unpacklo_epi64(ab, cd);
        fours[q][1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        fours[q][2] = _mm512_unpacklo_epi64(ab, cd);
        fours[q][3] = _mm512_unpackhi_epi64(ab, cd);
    }
    // The first 16 bytes of each half of a register are first halves of blocks, the others second halves.
    let mut turned = [zero; 8];
    for k in 0..4 {
        turned[k] = _mm512_shuffle_i32x4::<0x88>(fours[0][k], fours[1][k]);
        turned[4 + k] = _mm512_shuffle_i32x4::<0xdd>(fours[0][k], fours[1][k]);
    }
    turned
}

/// Turns 16 rows of 16 double words into 16 columns.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn transpose(row: impl Fn(usize) -> __m512i) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    // Within each 16 bytes: `fours[4 q + c]` has columns `c, 4 + c, 8 + c, 12 + c` of rows `4 q .. 4 q + 4`.
    let mut fours = [zero; 16];
    for q in 0..4 {
        let [a, b, c, d] = [row(4 * q), row(4 * q + 1), row(4 * q + 2), row(4 * q + 3)];
        let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
        fours[4 * q] = _mm512_unpacklo_epi64(ab, cd);
        fours[4 * q + 1] = _mm512_unpackhi_epi64(ab, cd);
        let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
        fours[4 * q + 2] = _mm512_unpacklo_epi64(ab, cd);
        fours[4 * q + 3] = _mm512_unpackhi_epi64(ab, cd);
    }
    // Then a transposition of 4 × 4 pieces of 16 bytes.
    let mut columns = [zero; 16];
    for c in 0..4 {
        let even_upper = _mm512_shuffle_i32x4::<0x88>(fours[c], fours[4 + c]);
        let odd_upper = _mm512_shuffle_i32x4::<0xdd>(fours[c], fours[4 + c]);
        let even_lower = _mm512_shuffle_i32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let odd_lower = _mm512_shuffle_i32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        columns[c] = _mm512_shuffle_i32x4::<0x88>(even_upper, even_lower);
        columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd_upper, odd_lower);
        columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even_upper, even_lower);
        columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd_upper, odd_lower);
    }
    columns
}
