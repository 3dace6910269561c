//! The K types: super-blocks of 256 elements whose sub-blocks have small integer scales of their own.

use super::f16_at;

/// Scale and minimum of sub-block `j` (0 to 7), six bits each, out of the twelve bytes that Q4_K and Q5_K pack them in.
pub(super) fn scale_min(j: usize, packed: &[u8]) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 0xf | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    }
}

/// `scales: (u4 scale, u4 min)[16], q: u2[256], d: f16, dmin: f16`, value `d * scale * q - dmin * min`.
pub(super) fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, rest) = block.split_at(16);
    let (d, dmin) = (f16_at(&rest[64..]), f16_at(&rest[66..]));
    // Each half of 128 has 32 bytes; bit pair `s` of byte `l` is element `32 s + l`, sub-blocks are 16 elements.
    for (i, values) in out.chunks_exact_mut(16).enumerate() {
        let (half, shift, start) = (i / 8, i % 8 / 2 * 2, i % 2 * 16);
        let (scale, min) = (d * f32::from(scales[i] & 0xf), dmin * f32::from(scales[i] >> 4));
        let bytes = &rest[half * 32 + start..][..16];
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

/// `high: u1[256], q: u2[256], scales: i6[16] (offset 32), d: f16`, value `d * scale * (q - 4)` with three-bit `q`.
pub(super) fn q3_k(block: &[u8], out: &mut [f32]) {
    let (high, rest) = block.split_at(32);
    let (low, rest) = rest.split_at(64);
    let d = f16_at(&rest[12..]);
    for (i, values) in out.chunks_exact_mut(16).enumerate() {
        let (half, plane, start) = (i / 8, i % 8 / 2, i % 2 * 16);
        let scale = d * f32::from(q3_scale(i, rest));
        for (l, value) in values.iter_mut().enumerate() {
            let q = low[half * 32 + start + l] >> (2 * plane) & 3;
            let bit = high[start + l] >> (half * 4 + plane) & 1;
            *value = scale * f32::from((q | bit << 2) as i8 - 4);
        }
    }
}

/// Scale `i` (0 to 15) of Q3_K: low four bits in the first eight bytes, high two in the last four.
fn q3_scale(i: usize, packed: &[u8]) -> i8 {
    let low = packed[i % 8] >> (i / 8 * 4) & 0xf;
    let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}

/// `d: f16, dmin: f16, (scale, min): u6[8], q: u4[256]`, value `d * scale * q - dmin * min`.
pub(super) fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin, scales) = (f16_at(block), f16_at(&block[2..]), &block[4..16]);
    for (i, values) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(i, scales);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for (value, byte) in values.iter_mut().zip(&block[16 + i / 2 * 32..]) {
            *value = scale * f32::from(byte >> (i % 2 * 4) & 0xf) - min;
        }
    }
}

/// Q4_K with a fifth bit: bit `i` of byte `l` of `high: u8[32]` belongs to element `l` of sub-block `i`.
pub(super) fn q5_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin, scales) = (f16_at(block), f16_at(&block[2..]), &block[4..16]);
    let (high, low) = block[16..].split_at(32);
    for (i, values) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(i, scales);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        for ((value, byte), bits) in values.iter_mut().zip(&low[i / 2 * 32..]).zip(high) {
            let q = byte >> (i % 2 * 4) & 0xf | (bits >> i & 1) << 4;
            *value = scale * f32::from(q) - min;
        }
    }
}

/// `low: u4[256], high: u2[256], scales: i8[16], d: f16`, value `d * scale * (q - 32)` with six-bit `q`.
pub(super) fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let d = f16_at(&rest[16..]);
    for (i, values) in out.chunks_exact_mut(16).enumerate() {
        // Each half of 128 has four planes of 32: planes 0 and 1 in the low nibbles, 2 and 3 in the high ones.
        let (half, plane, start) = (i / 8, i % 8 / 2, i % 2 * 16);
        let scale = d * f32::from(rest[i] as i8);
        let low = &low[half * 64 + plane % 2 * 32 + start..];
        let high = &high[half * 32 + start..];
        for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
            let q = low >> (plane / 2 * 4) & 0xf | (high >> (2 * plane) & 3) << 4;
            *value = scale * f32::from(q as i8 - 32);
        }
    }
}
