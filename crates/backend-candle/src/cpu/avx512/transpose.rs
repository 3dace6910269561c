//! Transposition of 16 × 16 double words in registers.

use std::arch::x86_64::*;

/// Turns 16 rows of 16 double words into 16 columns.
#[target_feature(enable = "avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
pub(super) fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    // Pairs of rows, then fours, within each 16 bytes: `fours[4 q + c]` has columns `c, 4 + c, 8 + c, 12 + c` of
    // rows `4 q .. 4 q + 4`.
    let mut pairs = [zero; 16];
    for i in 0..8 {
        pairs[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = [zero; 16];
    for q in 0..4 {
        for h in 0..2 {
            fours[4 * q + 2 * h] = _mm512_unpacklo_epi64(pairs[4 * q + h], pairs[4 * q + 2 + h]);
            fours[4 * q + 2 * h + 1] = _mm512_unpackhi_epi64(pairs[4 * q + h], pairs[4 * q + 2 + h]);
        }
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
