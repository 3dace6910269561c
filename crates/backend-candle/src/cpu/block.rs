//! What a row of quantised weights means: one unpacked form for every block format.
//!
//! All integer formats are brought to blocks of 32 weights, numbered `b` along the row:
//!
//! ```text
//! weight[32 b + i] = scale[b] * sub[b][i / 16] * (q[32 b + i] + lift) + min[b] * sub_min[b][i / 16]
//! ```
//!
//! where `sub` is 1 for formats with one scale per 32 weights and `sub_min` is 1 for formats with one minimum per 32.
//! Kernels for special instructions unpack differently but compute the same integers and the same `f32` factors, so
//! this file is their oracle as well as the portable path's first half. Layouts are GGUF's (ggml-common.h).

use half::f16;
use perch_model::DType;

/// Weights in a block of the unpacked form.
pub(super) const BLOCK: usize = 32;

/// What a format's unpacked form has besides `q` and `scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// Has `min`.
    pub(super) min: bool,
    /// Has `sub`: an integer scale for each 16 weights.
    pub(super) sub: bool,
    /// Has `sub_min`: an integer minimum for each 16 weights.
    pub(super) sub_min: bool,
    /// Added to every `q` (formats whose integers do not fit `i8`).
    pub(super) lift: i32,
    /// What has to be added to every `q` to bring it into 0–63, a power of two or 0; `None` where `q` takes all of `i8`.
    pub(super) zero: Option<i8>,
}

impl Form {
    /// The form of `dtype`; `None` for the float types.
    pub(super) fn of(dtype: DType) -> Option<Self> {
        let plain = Form { min: false, sub: false, sub_min: false, lift: 0, zero: Some(0) };
        Some(match dtype {
            DType::Q4_0 => Form { zero: Some(8), ..plain },
            DType::Q5_0 | DType::Mxfp4 => Form { zero: Some(16), ..plain },
            DType::Q8_0 => Form { zero: None, ..plain },
            DType::Q4_1 | DType::Q5_1 | DType::Q4K | DType::Q5K => Form { min: true, ..plain },
            DType::Affine8 => Form { min: true, lift: 128, zero: None, ..plain },
            DType::Q3K => Form { sub: true, zero: Some(4), ..plain },
            DType::Q6K => Form { sub: true, zero: Some(32), ..plain },
            DType::Q2K => Form { min: true, sub: true, sub_min: true, ..plain },
            _ => return None,
        })
    }
}

/// One row of weights in the unpacked form. Vectors that the form lacks are empty.
///
/// Unpacking is inlined into its callers, so that each level compiles it with its own instructions.
#[derive(Debug, Clone)]
pub(super) struct UnpackedRow {
    pub(super) form: Form,
    pub(super) q: Vec<i8>,
    pub(super) scale: Vec<f32>,
    pub(super) min: Vec<f32>,
    pub(super) sub: Vec<[i32; 2]>,
    pub(super) sub_min: Vec<[i32; 2]>,
}

impl UnpackedRow {
    /// Room for a row of `cols` weights of a block format.
    pub(super) fn new(form: Form, cols: usize) -> Self {
        let blocks = cols / BLOCK;
        let when = |has: bool| if has { blocks } else { 0 };
        Self {
            form,
            q: vec![0; blocks * BLOCK],
            scale: vec![0.0; blocks],
            min: vec![0.0; when(form.min)],
            sub: vec![[1; 2]; when(form.sub)],
            sub_min: vec![[1; 2]; when(form.sub_min)],
        }
    }

    /// Unpacks the bytes of a whole row of `dtype`.
    #[inline(always)]
    pub(super) fn unpack(&mut self, dtype: DType, row: &[u8]) {
        let per_block = dtype.block_len() / BLOCK;
        for (i, bytes) in row.chunks_exact(dtype.block_bytes()).enumerate() {
            self.unpack_block(dtype, bytes, i * per_block);
        }
    }

    /// Unpacks one stored block into blocks `b ..` of the row.
    #[inline(always)]
    fn unpack_block(&mut self, dtype: DType, bytes: &[u8], b: usize) {
        match dtype {
            DType::Q4_0 => {
                self.scale[b] = half(bytes, 0);
                nibbles(&bytes[2..18], self.block(b), |v| v as i8 - 8);
            }
            DType::Q4_1 => {
                (self.scale[b], self.min[b]) = (half(bytes, 0), half(bytes, 2));
                nibbles(&bytes[4..20], self.block(b), |v| v as i8);
            }
            DType::Q5_0 => {
                self.scale[b] = half(bytes, 0);
                five_bits(&bytes[2..22], self.block(b), 16);
            }
            DType::Q5_1 => {
                (self.scale[b], self.min[b]) = (half(bytes, 0), half(bytes, 2));
                five_bits(&bytes[4..24], self.block(b), 0);
            }
            DType::Q8_0 => {
                self.scale[b] = half(bytes, 0);
                self.block(b).copy_from_slice(bytemuck::cast_slice(&bytes[2..34]));
            }
            DType::Affine8 => {
                (self.scale[b], self.min[b]) = (half(bytes, 0), half(bytes, 2));
                for (q, v) in self.block(b).iter_mut().zip(&bytes[4..36]) {
                    *q = (v ^ 0x80) as i8;
                }
            }
            DType::Mxfp4 => {
                self.scale[b] = e8m0_half(bytes[0]);
                nibbles(&bytes[1..17], self.block(b), |v| E2M1_DOUBLED[v as usize]);
            }
            DType::Q2K => self.unpack_q2k(bytes, b),
            DType::Q3K => self.unpack_q3k(bytes, b),
            DType::Q4K | DType::Q5K => self.unpack_q45k(dtype, bytes, b),
            DType::Q6K => self.unpack_q6k(bytes, b),
            _ => unreachable!("{dtype:?} has no blocks"),
        }
    }

    #[inline(always)]
    fn block(&mut self, b: usize) -> &mut [i8] {
        &mut self.q[b * BLOCK..(b + 1) * BLOCK]
    }

    #[inline(always)]
    fn unpack_q2k(&mut self, bytes: &[u8], b: usize) {
        let (scales, qs) = (&bytes[..16], &bytes[16..80]);
        for j in 0..8 {
            self.scale[b + j] = half(bytes, 80);
            self.min[b + j] = -half(bytes, 82);
            self.sub[b + j] = [0, 1].map(|h| i32::from(scales[2 * j + h] & 15));
            self.sub_min[b + j] = [0, 1].map(|h| i32::from(scales[2 * j + h] >> 4));
            let packed = &qs[32 * (j / 4)..][..32];
            for (q, v) in self.block(b + j).iter_mut().zip(packed) {
                *q = (v >> (2 * (j % 4)) & 3) as i8;
            }
        }
    }

    #[inline(always)]
    fn unpack_q3k(&mut self, bytes: &[u8], b: usize) {
        let (high, qs, scales) = (&bytes[..32], &bytes[32..96], q3k_scales(&bytes[96..108]));
        for j in 0..8 {
            self.scale[b + j] = half(bytes, 108);
            self.sub[b + j] = [0, 1].map(|h| i32::from(scales[2 * j + h]) - 32);
            let packed = &qs[32 * (j / 4)..][..32];
            for ((q, v), h) in self.block(b + j).iter_mut().zip(packed).zip(high) {
                *q = (v >> (2 * (j % 4)) & 3 | (h >> j & 1) << 2) as i8 - 4;
            }
        }
    }

    #[inline(always)]
    fn unpack_q45k(&mut self, dtype: DType, bytes: &[u8], b: usize) {
        let (d, dmin) = (half(bytes, 0), half(bytes, 2));
        let (scales, mins) = q4k_scales(&bytes[4..16]);
        let (high, qs) = match dtype {
            DType::Q5K => (Some(&bytes[16..48]), &bytes[48..176]),
            _ => (None, &bytes[16..144]),
        };
        for j in 0..8 {
            self.scale[b + j] = d * f32::from(scales[j]);
            self.min[b + j] = -(dmin * f32::from(mins[j]));
            let packed = &qs[32 * (j / 2)..][..32];
            for (i, (q, v)) in self.block(b + j).iter_mut().zip(packed).enumerate() {
                let fifth = high.map_or(0, |h| (h[i] >> j & 1) << 4);
                *q = (v >> (4 * (j % 2)) & 15 | fifth) as i8;
            }
        }
    }

    #[inline(always)]
    fn unpack_q6k(&mut self, bytes: &[u8], b: usize) {
        let (low, high, scales) = (&bytes[..128], &bytes[128..192], &bytes[192..208]);
        for j in 0..8 {
            self.scale[b + j] = half(bytes, 208);
            self.sub[b + j] = [0, 1].map(|h| i32::from(scales[2 * j + h] as i8));
            // Half a superblock is four blocks: two in the low nibbles of 64 bytes, two in the high ones.
            let low = &low[64 * (j / 4) + 32 * (j % 2)..][..32];
            let high = &high[32 * (j / 4)..][..32];
            for ((q, l), h) in self.block(b + j).iter_mut().zip(low).zip(high) {
                *q = (l >> (4 * (j % 4 / 2)) & 15 | (h >> (2 * (j % 4)) & 3) << 4) as i8 - 32;
            }
        }
    }
}

/// Twice the values of E2M1, by code.
pub(super) const E2M1_DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of two to the power of an E8M0 exponent: the factor that goes with [`E2M1_DOUBLED`].
#[inline(always)]
fn e8m0_half(exponent: u8) -> f32 {
    match exponent {
        // 2^-128 and 2^-127 are subnormal.
        0 | 1 => f32::from_bits(0x0020_0000 << exponent),
        e => f32::from_bits((u32::from(e) - 1) << 23),
    }
}

/// The `f16` at byte `at`.
#[inline(always)]
fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// 16 bytes hold elements 0..16 in their low and 16..32 in their high nibbles.
#[inline(always)]
fn nibbles(packed: &[u8], q: &mut [i8], value: impl Fn(u8) -> i8) {
    let (low, high) = q.split_at_mut(16);
    for ((low, high), v) in low.iter_mut().zip(high).zip(packed) {
        (*low, *high) = (value(v & 15), value(v >> 4));
    }
}

/// 4 bytes of fifth bits, then nibbles.
#[inline(always)]
fn five_bits(packed: &[u8], q: &mut [i8], zero: i8) {
    let fifth = u32::from_le_bytes([packed[0], packed[1], packed[2], packed[3]]);
    nibbles(&packed[4..20], q, |v| v as i8);
    for (i, q) in q.iter_mut().enumerate() {
        *q = (*q | ((fifth >> i & 1) << 4) as i8) - zero;
    }
}

/// The eight 6-bit scales and minima of Q4_K and Q5_K.
#[inline(always)]
fn q4k_scales(packed: &[u8]) -> ([u8; 8], [u8; 8]) {
    let mut scales = [0; 8];
    let mut mins = [0; 8];
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = packed[j + 8] & 15 | packed[j] >> 6 << 4;
        mins[j + 4] = packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4;
    }
    (scales, mins)
}

/// The sixteen 6-bit scales of Q3_K, 32 too large.
#[inline(always)]
fn q3k_scales(packed: &[u8]) -> [u8; 16] {
    std::array::from_fn(|j| {
        let low = if j < 8 { packed[j] & 15 } else { packed[j - 8] >> 4 };
        low | (packed[8 + j % 4] >> (2 * (j / 4)) & 3) << 4
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{QUANTISED, random_weights};
    use perch_model::quant::dequantize_row;

    /// Weight `i` of the row by the formula at the head of this file.
    fn value(row: &UnpackedRow, i: usize) -> f32 {
        let (b, h) = (i / BLOCK, i % BLOCK / 16);
        let scale = row.scale[b] * row.sub.get(b).map_or(1.0, |s| s[h] as f32);
        let scaled = scale * (i32::from(row.q[i]) + row.form.lift) as f32;
        let min = row.min.get(b).map(|m| m * row.sub_min.get(b).map_or(1.0, |s| s[h] as f32));
        min.map_or(scaled, |m| scaled + m)
    }

    #[test]
    fn unpacked_rows_mean_what_the_reference_reads() {
        const COLS: usize = 2048;
        for dtype in QUANTISED {
            let weights = random_weights(dtype, 4, COLS, 7);
            for bytes in weights.bytes().chunks_exact(dtype.row_bytes(COLS).unwrap()) {
                let mut row = UnpackedRow::new(Form::of(dtype).unwrap(), COLS);
                row.unpack(dtype, bytes);
                let mut reference = vec![0.0; COLS];
                dequantize_row(dtype, bytes, &mut reference);
                for (i, reference) in reference.into_iter().enumerate() {
                    let ours = value(&row, i);
                    // The reference may round its products in another order.
                    let slack = 1e-6 * ours.abs().max(row.min.get(i / BLOCK).map_or(0.0, |m| m.abs() * 16.0));
                    assert!(
                        (ours - reference).abs() <= slack,
                        "{dtype:?}, weight {i}: {ours}, not {reference}"
                    );
                }
            }
        }
    }
}
