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

/// One row of MLX's affine quantisation with `bits` 4 or 8. `out` gets a Q4_1 or an Affine8 block for each 32 elements.
/// Returns whether every scale and bias fits into f16.
pub(super) fn affine_row(bits: usize, packed: &[u8], scales: AffineScales<'_>, out: &mut [u8]) -> bool {
    let (packed_bytes, block_bytes) = (bits * 4, bits * 4 + 4);
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
            _ => block[4..].copy_from_slice(packed),
        }
    }
    finite
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
