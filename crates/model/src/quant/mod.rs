//! Block quantisation: from blocks to f32 for every [`DType`], and from f32 to the blocks that Perch itself makes.
//!
//! Holds the reference implementation, exact to ggml's (`ggml-quants.c`) in what a block means and in how it is
//! rounded; fast kernels live in the backends and are tested against this. All layouts are little-endian.

mod bits4;
mod bits5_8;
mod float;
mod k_decode;
mod k_encode;
mod k_fit;
mod on_load;

pub use on_load::Quantize;

pub(crate) use on_load::{RowSource, quantize_matrix};

use crate::DType;

/// Expands whole blocks to f32: `bytes` holds `out.len()` elements of type `dtype`.
///
/// # Panics
/// If `out` is not a whole number of blocks, or `bytes` is not as long as they are.
pub fn dequantize_row(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(dtype.row_bytes(out.len()), Some(bytes.len()), "a row of {dtype:?} has other lengths");
    match dtype {
        DType::F32 => float::from_f32(bytes, out),
        DType::F16 => float::from_f16(bytes, out),
        DType::BF16 => float::from_bf16(bytes, out),
        DType::Q4_0 => blocks(dtype, bytes, out, bits4::decode_q4_0),
        DType::Q4_1 => blocks(dtype, bytes, out, bits4::decode_q4_1),
        DType::Mxfp4 => blocks(dtype, bytes, out, bits4::decode_mxfp4),
        DType::Q5_0 => blocks(dtype, bytes, out, bits5_8::decode_q5_0),
        DType::Q5_1 => blocks(dtype, bytes, out, bits5_8::decode_q5_1),
        DType::Q8_0 => blocks(dtype, bytes, out, bits5_8::decode_q8_0),
        DType::Affine8 => blocks(dtype, bytes, out, bits5_8::decode_affine8),
        DType::Q2K => blocks(dtype, bytes, out, k_decode::q2_k),
        DType::Q3K => blocks(dtype, bytes, out, k_decode::q3_k),
        DType::Q4K => blocks(dtype, bytes, out, k_decode::q4_k),
        DType::Q5K => blocks(dtype, bytes, out, k_decode::q5_k),
        DType::Q6K => blocks(dtype, bytes, out, k_decode::q6_k),
    }
}

/// Rounds `values` into blocks of type `dtype`. Returns whether it can: F32, F16, BF16, Q4_0, Q8_0, Q4_K and Q6_K can
/// be made here, the others are only read.
///
/// # Panics
/// If `values` is not a whole number of blocks, or `out` is not as long as they are.
pub fn quantize_row(dtype: DType, values: &[f32], out: &mut [u8]) -> bool {
    assert_eq!(dtype.row_bytes(values.len()), Some(out.len()), "a row of {dtype:?} has other lengths");
    let blocks = values.chunks_exact(dtype.block_len()).zip(out.chunks_exact_mut(dtype.block_bytes()));
    match dtype {
        DType::F32 => float::to_f32(values, out),
        DType::F16 => float::to_f16(values, out),
        DType::BF16 => float::to_bf16(values, out),
        DType::Q4_0 => blocks.for_each(|(values, out)| bits4::encode_q4_0(values, out)),
        DType::Q8_0 => blocks.for_each(|(values, out)| bits5_8::encode_q8_0(values, out)),
        DType::Q4K => blocks.for_each(|(values, out)| k_encode::q4_k(values, out)),
        DType::Q6K => blocks.for_each(|(values, out)| k_encode::q6_k(values, out)),
        _ => return false,
    }
    true
}

fn blocks(dtype: DType, bytes: &[u8], out: &mut [f32], decode: impl Fn(&[u8], &mut [f32])) {
    let values = out.chunks_exact_mut(dtype.block_len());
    bytes.chunks_exact(dtype.block_bytes()).zip(values).for_each(|(block, values)| decode(block, values));
}

/// The f16 at the start of `bytes`.
fn f16_at(bytes: &[u8]) -> f32 {
    half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Rounds half to even, as ggml's `nearest_int` does; good for magnitudes up to 2²².
fn nearest(value: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: the sum has no room for a fraction.
    (value + MAGIC) - MAGIC
}
