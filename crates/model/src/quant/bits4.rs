//! The four-bit types with one scale for 32 elements: Q4_0, Q4_1, MXFP4.
//!
//! Byte `j` of a block's 16 holds element `j` in its low nibble and element `j + 16` in its high one.

use half::f16;

use super::f16_at;

fn nibbles(packed: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for ((byte, low), high) in packed.iter().zip(low).zip(high) {
        *low = value(byte & 0xf);
        *high = value(byte >> 4);
    }
}

/// `d: f16, q: u4[32]`, value `d * (q - 8)`.
pub(super) fn decode_q4_0(block: &[u8], out: &mut [f32]) {
    let d = f16_at(block);
    nibbles(&block[2..], out, |q| f32::from(q as i8 - 8) * d);
}

/// `d: f16, m: f16, q: u4[32]`, value `d * q + m`.
pub(super) fn decode_q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (f16_at(block), f16_at(&block[2..]));
    nibbles(&block[4..], out, |q| f32::from(q) * d + m);
}

/// `e: u8, q: e2m1[32]`, value `2^(e - 127) * q`.
pub(super) fn decode_mxfp4(block: &[u8], out: &mut [f32]) {
    // The table holds doubled values, so that they are whole; the scale is halved to match.
    const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
    let half_scale = match block[0] {
        e @ 0..2 => f32::from_bits(0x0020_0000 << e), // 2^-128 and 2^-127 are subnormal.
        e => f32::from_bits((u32::from(e) - 1) << 23),
    };
    nibbles(&block[1..], out, |q| f32::from(DOUBLED[usize::from(q)]) * half_scale);
}

/// The element of largest magnitude becomes -8, as ggml does it: that end of the range has one step more.
pub(super) fn encode_q4_0(values: &[f32], out: &mut [u8]) {
    let max = values.iter().fold(0.0f32, |max, v| if v.abs() > max.abs() { *v } else { max });
    let d = max / -8.0;
    let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
    out[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    // In f64, because ggml's build fuses the product and the sum, so that nothing is rounded between them.
    let quantize = |v: f32| (f64::from(v) * f64::from(inverse) + 8.5).min(15.0) as u8;
    for (j, byte) in out[2..].iter_mut().enumerate() {
        *byte = quantize(values[j]) | quantize(values[j + 16]) << 4;
    }
}
