//! Turns the packed rows of MLX and of gpt-oss' safetensors into GGUF-style blocks.
//!
//! Nothing is rounded but MLX's scales and biases, to f16 (exact for f16 checkpoints, and for the range that bf16 scales
//! of real weights have). The packed values go over bit by bit.
//!
//! Nibble order: MLX and gpt-oss put elements `2j` and `2j + 1` into byte `j`, low nibble first; a GGUF block of 32 puts
//! elements `j` and `j + 16` there.

use half::{bf16, f16};

use crate::DType;

/// Reorders 16 bytes of consecutive pairs into the order of a GGUF block.
fn reorder(pairs: &[u8], block: &mut [u8]) {
    let element = |i: usize| pairs[i / 2] >> (i % 2 * 4) & 0xf;
    for (j, byte) in block.iter_mut().enumerate() {
        *byte = element(j) | element(j + 16) << 4;
    }
}

/// One row of MXFP4: `packed` has 16 bytes for each block, `scales` one; `out` gets 17 for each.
pub(super) fn mxfp4_row(packed: &[u8], scales: &[u8], out: &mut [u8]) {
    let blocks = out.chunks_exact_mut(17).zip(packed.chunks_exact(16)).zip(scales);
    for ((block, packed), scale) in blocks {
        block[0] = *scale;
        reorder(packed, &mut block[1..]);
    }
}

/// The scales and biases of a row of MLX's affine quantisation.
#[derive(Debug, Clone, Copy)]
pub(super) struct AffineScales<'a> {
    /// Their type: F32, F16 or BF16.
    pub(super) dtype: DType,
    /// One for each group.
    pub(super) scales: &'a [u8],
    /// One for each group.
    pub(super) biases: &'a [u8],
    /// Elements in a group: a multiple of 32.
    pub(super) group: usize,
}

/// One row of NVFP4: `packed` has 8 bytes for each 16 elements, `scales` one; `out` gets 16 f16 for each. Exact: a value has one
/// bit after its first and a scale three.
pub(super) fn nvfp4_row(packed: &[u8], scales: &[u8], out: &mut [u8]) {
    let groups = out.chunks_exact_mut(32).zip(packed.chunks_exact(8)).zip(scales);
    for ((out, packed), scale) in groups {
        let scale = e4m3(*scale);
        for (i, out) in out.chunks_exact_mut(2).enumerate() {
            let value = E2M1[usize::from(packed[i / 2] >> (i % 2 * 4) & 0xf)] * scale;
            out.copy_from_slice(&f16::from_f32(value).to_le_bytes());
        }
    }
}

/// The values of four bits: sign, two of exponent, one of fraction (OCP Microscaling Formats 1.0, 5.3.3).
const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// A byte of sign, four of exponent with a bias of 7, and three of fraction; no infinities (OCP 8-bit Floating Point 1.0).
fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 0xf), f32::from(byte & 7));
    let magnitude = match exponent {
        15 if byte & 7 == 7 => f32::NAN,
        0 => fraction * 0.001953125, // 2⁻⁹
        _ => (1.0 + fraction / 8.0) * 2.0_f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

/// One row of MLX's affine quantisation with `bits` 2 to 8. `out` gets a Q4_1 block (4 bits) or an Affine8 block (all others)
/// for each 32 elements. Returns whether every scale and bias fits into f16.
///
/// Element `i` is bits `i * bits .. (i + 1) * bits` of the row, counted from the lowest bit of its first byte.
pub(super) fn affine_row(bits: usize, packed: &[u8], scales: AffineScales<'_>, out: &mut [u8]) -> bool {
    let (packed_bytes, block_bytes) = (bits * 4, if bits == 4 { 20 } else { 36 });
    let blocks_in_group = scales.group / 32;
    let blocks = out.chunks_exact_mut(block_bytes).zip(packed.chunks_exact(packed_bytes));
    let mut finite = true;
    for (i, (block, packed)) in blocks.enumerate() {
        let group = i / blocks_in_group;
        let (scale, bias) =
            (f16_of(scales.dtype, scales.scales, group), f16_of(scales.dtype, scales.biases, group));
        finite &= scale.is_finite() && bias.is_finite();
        block[..2].copy_from_slice(&scale.to_le_bytes());
        block[2..4].copy_from_slice(&bias.to_le_bytes());
        match bits {
            4 => reorder(packed, &mut block[4..]),
            8 => block[4..].copy_from_slice(packed),
            _ => block[4..].iter_mut().enumerate().for_each(|(i, byte)| *byte = element(packed, bits, i)),
        }
    }
    finite
}

/// Element `i` of a stream of elements with `bits` bits.
fn element(packed: &[u8], bits: usize, i: usize) -> u8 {
    let (byte, shift) = (i * bits / 8, i * bits % 8);
    let next = packed.get(byte + 1).copied().unwrap_or(0);
    let word = u16::from_le_bytes([packed[byte], next]);
    (word >> shift) as u8 & ((1 << bits) - 1)
}

/// Element `i` of some floats, as f16.
fn f16_of(dtype: DType, bytes: &[u8], i: usize) -> f16 {
    match dtype {
        DType::F16 => f16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]),
        DType::BF16 => f16::from_f32(bf16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]).to_f32()),
        _ => {
            let b = &bytes[4 * i..4 * i + 4];
            f16::from_f32(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        }
    }
}
