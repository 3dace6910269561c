//! From tensors of a checkpoint to arrays: in the form that the file has them where MLX's kernels take it.
//!
//! MLX's own packings go over word by word. Blocks of GGUF that hold a scale (and a minimum) for 32 whole numbers are the same thing
//! in another order; they are repacked without loss. What has no such form (K-quants) is not for this backend.

use mlx_rs::error::Result;
use mlx_rs::ops::concatenate;
use mlx_rs::{Array, Dtype};
use perch_model::{DType, PackedMatrix, Packing, Quantize, Tensor};

use crate::linear::Weights;
use crate::ops::{Quantised, Scheme, dim};

/// A matrix on its way to the device.
pub(crate) enum Host<'a> {
    /// Floats.
    Dense(Tensor),
    /// MLX's packing, or what is the same.
    Packed(PackedMatrix<'a>),
}

impl Host<'_> {
    /// Outputs and inputs.
    fn shape(&self) -> (usize, usize) {
        match self {
            Host::Dense(tensor) => (tensor.rows(), tensor.cols()),
            Host::Packed(packed) => (packed.rows, packed.cols),
        }
    }
}

/// A tensor in a form that MLX runs; `None` if it has none.
pub(crate) fn host(tensor: Tensor) -> Option<Host<'static>> {
    let (bits, offset): (usize, u8) = match tensor.dtype() {
        DType::F32 | DType::F16 | DType::BF16 => return Some(Host::Dense(tensor)),
        DType::Mxfp4 => return Some(Host::Packed(mxfp4(&tensor))),
        DType::Q4_0 | DType::Q4_1 => (4, 8),
        DType::Q8_0 | DType::Affine8 => (8, 128),
        _ => return None,
    };
    let (rows, cols) = (tensor.rows(), tensor.cols());
    let blocks = rows * cols / 32;
    let mut words = Vec::with_capacity(blocks * 4 * bits);
    let (mut scales, mut biases) = (Vec::with_capacity(4 * blocks), Vec::with_capacity(4 * blocks));
    for block in tensor.bytes().chunks_exact(tensor.dtype().block_bytes()) {
        let half = |at: usize| half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let has_minimum = matches!(tensor.dtype(), DType::Q4_1 | DType::Affine8);
        let (scale, values) = (half(0), &block[if has_minimum { 4 } else { 2 }..]);
        let bias = if has_minimum { half(2) } else { -scale * f32::from(offset) };
        scales.extend(scale.to_le_bytes());
        biases.extend(bias.to_le_bytes());
        match tensor.dtype() {
            // Signed bytes become unsigned ones.
            DType::Q8_0 => words.extend(values.iter().map(|value| value ^ 0x80)),
            DType::Affine8 => words.extend(values),
            _ => words.extend(pairs(values)),
        }
    }
    Some(Host::Packed(PackedMatrix {
        packing: Packing::Affine(DType::F32),
        bits,
        group: 32,
        rows,
        cols,
        words: words.into(),
        scales: scales.into(),
        biases: Some(biases.into()),
    }))
}

/// GGUF's MXFP4 blocks, a byte of exponent before 32 values, as MLX has them.
fn mxfp4(tensor: &Tensor) -> PackedMatrix<'static> {
    let blocks = tensor.bytes().chunks_exact(DType::Mxfp4.block_bytes());
    let scales: Vec<u8> = blocks.clone().map(|block| block[0]).collect();
    let words: Vec<u8> = blocks.flat_map(|block| pairs(&block[1..])).collect();
    PackedMatrix {
        packing: Packing::Mxfp4,
        bits: 4,
        group: 32,
        rows: tensor.rows(),
        cols: tensor.cols(),
        words: words.into(),
        scales: scales.into(),
        biases: None,
    }
}

/// 32 values of four bits, with `j` beside `j + 1` where GGUF has it beside `j + 16`.
fn pairs(values: &[u8]) -> impl Iterator<Item = u8> {
    let nibble = |i: usize| if i < 16 { values[i] & 0xf } else { values[i - 16] >> 4 };
    (0..16).map(move |j| nibble(2 * j) | nibble(2 * j + 1) << 4)
}

/// A matrix on the device, computed: `[rows, cols]`; or a stack of them where `hosts` has more than one, or `stacked` says so.
/// Floats have type `dtype`, and are rounded to `quantize` if they can be.
pub(crate) fn upload(
    hosts: &[Host<'_>],
    stacked: bool,
    dtype: Dtype,
    quantize: Option<Quantize>,
) -> Result<Weights> {
    let lead = stacked.then_some(1);
    let mut parts = hosts.iter().map(|host| one(host, lead, dtype, quantize)).collect::<Result<Vec<_>>>()?;
    let weights = match parts.len() {
        1 => parts.remove(0),
        _ => join(&parts)?,
    };
    mlx_rs::transforms::eval(weights.arrays())?;
    Ok(weights)
}

fn one(host: &Host<'_>, lead: Option<i32>, dtype: Dtype, quantize: Option<Quantize>) -> Result<Weights> {
    let (rows, cols) = host.shape();
    let shape = |width: usize| -> Vec<i32> { lead.into_iter().chain([dim(rows), dim(width)]).collect() };
    match host {
        Host::Dense(tensor) => {
            let floats = array(tensor.bytes(), &shape(cols), float(tensor.dtype())).as_dtype(dtype)?;
            match quantize.and_then(|quantize| scheme(quantize, cols)) {
                Some(scheme) => {
                    let (words, scales, biases) = mlx_rs::ops::quantize(&floats, scheme.group, scheme.bits)?;
                    let weights =
                        Weights::Quantised(Quantised { words, scales, biases: Some(biases), scheme });
                    // One at a time: the floats are of no use any more.
                    mlx_rs::transforms::eval(weights.arrays())?;
                    Ok(weights)
                }
                None => Ok(Weights::Dense(floats)),
            }
        }
        Host::Packed(packed) => {
            let PackedMatrix { packing, bits, group, .. } = *packed;
            let words = array(&packed.words, &shape(cols / 32 * bits), Dtype::Uint32);
            let scales = |bytes: &[u8]| -> Result<Array> {
                match packing {
                    Packing::Affine(stored) => {
                        array(bytes, &shape(cols / group), float(stored)).as_dtype(dtype)
                    }
                    _ => Ok(array(bytes, &shape(cols / group), Dtype::Uint8)),
                }
            };
            let mode = match packing {
                Packing::Mxfp4 => c"mxfp4",
                Packing::Nvfp4 => c"nvfp4",
                _ => c"affine",
            };
            Ok(Weights::Quantised(Quantised {
                words,
                scales: scales(&packed.scales)?,
                biases: packed.biases.as_ref().map(|biases| scales(biases)).transpose()?,
                scheme: Scheme { mode, group: dim(group), bits: dim(bits) },
            }))
        }
    }
}

/// Stacks matrices of one form; those of different forms are a file that no tool makes, and become an error of MLX's.
fn join(parts: &[Weights]) -> Result<Weights> {
    let unlike = || mlx_rs::error::Exception::custom("experts of one layer are stored in different forms");
    let dense: Vec<&Array> =
        parts.iter().filter_map(|part| if let Weights::Dense(w) = part { Some(w) } else { None }).collect();
    if dense.len() == parts.len() {
        return Ok(Weights::Dense(concatenate(&dense, 0)?));
    }
    let quantised: Vec<&Quantised> = parts
        .iter()
        .filter_map(|part| if let Weights::Quantised(w) = part { Some(w) } else { None })
        .collect();
    let first = quantised.first().ok_or_else(unlike)?;
    if quantised.len() < parts.len() || quantised.iter().any(|part| part.scheme != first.scheme) {
        return Err(unlike());
    }
    let stack = |of: &dyn Fn(&Quantised) -> Array| -> Result<Array> {
        concatenate(&quantised.iter().map(|part| of(part)).collect::<Vec<_>>(), 0)
    };
    let biases: Vec<&Array> = quantised.iter().filter_map(|part| part.biases.as_ref()).collect();
    Ok(Weights::Quantised(Quantised {
        words: stack(&|part| part.words.clone())?,
        scales: stack(&|part| part.scales.clone())?,
        biases: if biases.is_empty() { None } else { Some(concatenate(&biases, 0)?) },
        scheme: first.scheme,
    }))
}

/// What MLX rounds to in place of a GGUF type: as many bits, in the largest groups that the rows are made of.
fn scheme(quantize: Quantize, cols: usize) -> Option<Scheme> {
    let bits = match quantize {
        Quantize::Q4_0 | Quantize::Q4K => 4,
        Quantize::Q6K => 6,
        _ => 8,
    };
    let group = [64, 32].into_iter().find(|group| cols.is_multiple_of(*group))?;
    Some(Scheme { mode: c"affine", group: dim(group), bits })
}

fn float(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::Float16,
        DType::BF16 => Dtype::Bfloat16,
        _ => Dtype::Float32,
    }
}

/// An array with a copy of `bytes`.
fn array(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Array {
    let size = match dtype {
        Dtype::Uint8 => 1,
        Dtype::Float16 | Dtype::Bfloat16 => 2,
        _ => 4,
    };
    let elements: usize = shape.iter().map(|n| *n as usize).product();
    assert_eq!(elements * size, bytes.len(), "a matrix has the bytes that its shape says");
    // SAFETY: the bytes are as many as the array has, are copied, and may mean any value of the type.
    unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) }
}
