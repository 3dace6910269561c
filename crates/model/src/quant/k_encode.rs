//! Makes Q4_K and Q6_K blocks of 256 elements.
//!
//! Two rounds, as in ggml: find good real scales (`k_fit`), round those to the block's small integers, then round every
//! element with the scales that a reader will really see.

use half::f16;

use super::k_decode::scale_min;
use super::k_fit::{Lanes, affine, symmetric};
use super::{f16_at, nearest};

/// Rounds 256 values into the 144 bytes of a Q4_K block.
pub(super) fn q4_k(values: &[f32], out: &mut [u8]) {
    let mut x = [[0.0; 8]; 32];
    for (lane, values) in values.chunks_exact(32).enumerate() {
        values.iter().zip(&mut x).for_each(|(value, row)| row[lane] = *value);
    }
    let fit = affine(&x);
    let mins = fit.min.map(|min| -min);
    let (max_scale, max_min) = (max(&fit.scale), max(&mins));
    let rounded = |value: f32, max: f32| {
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        nearest(inverse * value).clamp(0.0, 63.0) as u8
    };

    out[..2].copy_from_slice(&f16::from_f32(max_scale / 63.0).to_le_bytes());
    out[2..4].copy_from_slice(&f16::from_f32(max_min / 63.0).to_le_bytes());
    out[4..16].fill(0);
    for (j, (scale, min)) in fit.scale.into_iter().zip(mins).enumerate() {
        pack_scale_min(j, (rounded(scale, max_scale), rounded(min, max_min)), &mut out[4..16]);
    }

    let (d, dmin) = (f16_at(out), f16_at(&out[2..]));
    let (head, quants) = out.split_at_mut(16);
    quants.fill(0);
    for (j, values) in values.chunks_exact(32).enumerate() {
        let (scale, min) = scale_min(j, &head[4..]);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        if scale == 0.0 {
            continue; // Every q means the same.
        }
        for (value, byte) in values.iter().zip(&mut quants[j / 2 * 32..]) {
            *byte |= (nearest((value + min) / scale).clamp(0.0, 15.0) as u8) << (j % 2 * 4);
        }
    }
}

fn max(values: &Lanes) -> f32 {
    values.iter().fold(0.0f32, |max, value| max.max(*value))
}

/// The reverse of [`scale_min`], onto zeroed bytes.
fn pack_scale_min(j: usize, (scale, min): (u8, u8), packed: &mut [u8]) {
    if j < 4 {
        packed[j] |= scale;
        packed[j + 4] |= min;
    } else {
        packed[j + 4] |= scale & 0xf | min << 4;
        packed[j - 4] |= scale >> 4 << 6;
        packed[j] |= min >> 4 << 6;
    }
}

/// Rounds 256 values into the 210 bytes of a Q6_K block.
pub(super) fn q6_k(values: &[f32], out: &mut [u8]) {
    out.fill(0);
    let mut scales = [0.0; 16];
    for (scales, values) in scales.chunks_exact_mut(8).zip(values.chunks_exact(128)) {
        let mut x = [[0.0; 8]; 16];
        for (lane, values) in values.chunks_exact(16).enumerate() {
            values.iter().zip(&mut x).for_each(|(value, row)| row[lane] = *value);
        }
        scales.copy_from_slice(&symmetric(&x));
    }
    let top = scales.iter().fold(0.0f32, |top, scale| if scale.abs() > top.abs() { *scale } else { top });
    if top.abs() < 1e-15 {
        return; // All zero.
    }
    let inverse = -128.0 / top;
    out[208..].copy_from_slice(&f16::from_f32(1.0 / inverse).to_le_bytes());
    for (byte, scale) in out[192..208].iter_mut().zip(scales) {
        *byte = nearest(inverse * scale).clamp(-128.0, 127.0) as i8 as u8;
    }

    let d = f16_at(&out[208..]);
    for (i, values) in values.chunks_exact(16).enumerate() {
        let scale = d * f32::from(out[192 + i] as i8);
        if scale == 0.0 {
            continue; // Every q means the same.
        }
        let (half, plane, start) = (i / 8, i % 8 / 2, i % 2 * 16);
        for (l, value) in values.iter().enumerate() {
            let q = (nearest(value / scale).clamp(-32.0, 31.0) as i8 + 32) as u8;
            out[half * 64 + plane % 2 * 32 + start + l] |= (q & 0xf) << (plane / 2 * 4);
            out[128 + half * 32 + start + l] |= q >> 4 << (2 * plane);
        }
    }
}
