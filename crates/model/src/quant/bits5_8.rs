//! The five- and eight-bit types with one scale for 32 elements: Q5_0, Q5_1, Q8_0, and Perch's own Affine8.

use half::f16;

use super::f16_at;

/// Fifth bits lie in a word of their own, one for each element; the lower four as in Q4_0.
fn fives(high: &[u8], packed: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (j, byte) in packed.iter().enumerate() {
        out[j] = value(byte & 0xf | ((high >> j) as u8 & 1) << 4);
        out[j + 16] = value(byte >> 4 | ((high >> (j + 16)) as u8 & 1) << 4);
    }
}

/// `d: f16, high: u1[32], q: u4[32]`, value `d * (q - 16)`.
pub(super) fn decode_q5_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block);
    fives(&block[2..6], &block[6..], out, |q| f32::from(q as i8 - 16) * d);
}

/// `d: f16, m: f16, high: u1[32], q: u4[32]`, value `d * q + m`.
pub(super) fn decode_q5_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block), f16_at(&block[2..]));
    fives(&block[4..8], &block[8..], out, |q| f32::from(q) * d + m);
}

/// `d: f16, q: i8[32]`, value `d * q`.
pub(super) fn decode_q8_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block);
    for (value, q) in out.iter_mut().zip(&block[2..]) {
        *value = f32::from(*q as i8) * d;
    }
}

/// `d: f16, m: f16, q: u8[32]`, value `d * q + m`.
pub(super) fn decode_affine8(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block), f16_at(&block[2..]));
    for (value, q) in out.iter_mut().zip(&block[4..]) {
        *value = f32::from(*q) * d + m;
    }
}

/// The element of largest magnitude becomes 127 or -127; halves round away from zero.
pub(super) fn encode_q8_0(values: &[f32], out: &mut [u8]) {
    let max = values.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let d = max / 127.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    for (byte, value) in out[2..].iter_mut().zip(values) {
        *byte = (value * inverse).round() as i8 as u8;
    }
}
