//! Linear layers over weights of any stored type, and embeddings looked up in them.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Module, Result, Tensor};
use perch_model::DType;

use crate::cpu::Cpu;
use crate::cpu::elementwise;
use crate::cpu::matmul::matmul;
use crate::cpu::matrix::Matrix;
use crate::device::{Device, filled, read};

/// A loaded `y = x · weightᵀ + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weights,
    /// `[rows]`.
    bias: Option<Vec<f32>>,
    rows: usize,
}

/// A matrix `[rows, cols]` on its device.
#[derive(Debug, Clone)]
pub(crate) enum Weights {
    /// In place in the mapped file.
    Cpu(Matrix),
    /// Floats, transposed by stride only.
    Dense(Tensor),
    /// GGUF blocks.
    Blocks(QMatMul),
}

impl Weights {
    /// Takes `tensor` to `device`. On the CPU its bytes are used where they are.
    pub(crate) fn new(tensor: &perch_model::Tensor, device: &Device) -> Result<Self> {
        let device = match device {
            Device::Cpu(_) => {
                let matrix = Matrix::new(tensor.clone());
                return Ok(Weights::Cpu(matrix.map_err(candle_core::Error::wrap)?));
            }
            Device::Candle(device) => device,
        };
        let shape = (tensor.rows(), tensor.cols());
        match ggml_type(tensor.dtype()) {
            Some(dtype) => {
                let storage = QStorage::from_data(aligned(tensor.bytes()), device, dtype)?;
                let weight = QMatMul::from_arc(Arc::new(QTensor::new(storage, shape)?))?;
                Ok(Weights::Blocks(weight))
            }
            None => Ok(Weights::Dense(
                Tensor::from_vec(tensor.values(), shape, device)?.to_dtype(dense(tensor.dtype(), device))?,
            )),
        }
    }

    /// As the CPU kernels take them.
    fn matrix(&self) -> Result<&Matrix> {
        match self {
            Weights::Cpu(matrix) => Ok(matrix),
            _ => candle_core::bail!("the weights were loaded for another device"),
        }
    }

    /// Rows `rows` in `f32`, on the device: an embedding's lookup.
    pub(crate) fn lookup(&self, device: &Device, rows: &[u32], cols: usize) -> Result<Tensor> {
        match (self, device) {
            (_, Device::Cpu(cpu)) => {
                let (matrix, mut out) = (self.matrix()?, vec![0.0; rows.len() * cols]);
                cpu.pool.run_chunks(&mut out, cols, |i, out| matrix.row_f32(rows[i] as usize, out));
                device.tensor(out, rows.len())
            }
            (Weights::Dense(table), Device::Candle(device)) => {
                table.index_select(&Tensor::new(rows, device)?, 0)?.to_dtype(candle_core::DType::F32)
            }
            (Weights::Blocks(table), Device::Candle(device)) => {
                table.embedding(&Tensor::new(rows, device)?)?.to_dtype(candle_core::DType::F32)
            }
            (Weights::Cpu(_), _) => candle_core::bail!("the weights were loaded for the CPU"),
        }
    }
}

impl Linear {
    /// Joins a weight and a bias of as many elements as it has rows.
    pub(crate) fn new(weight: Weights, bias: Option<Vec<f32>>, rows: usize) -> Self {
        Self { weight, bias, rows }
    }

    /// `[n, cols]` to `[n, rows]`.
    pub(crate) fn forward(&self, device: &Device, x: &Tensor) -> Result<Tensor> {
        let [y] = Self::forward_all(device, [self], x)?;
        Ok(y)
    }

    /// The same for layers that share their input, read once.
    pub(crate) fn forward_all<const N: usize>(
        device: &Device,
        layers: [&Linear; N],
        x: &Tensor,
    ) -> Result<[Tensor; N]> {
        let rows = x.dim(0)?;
        let outs: Vec<Tensor> = match device {
            Device::Cpu(cpu) => {
                let outs = Self::outputs(cpu, layers, x)?;
                outs.into_iter().map(|out| device.tensor(out, rows)).collect::<Result<_>>()?
            }
            Device::Candle(device) => {
                layers.iter().map(|layer| layer.on_candle(device, x)).collect::<Result<_>>()?
            }
        };
        outs.try_into().map_err(|_| candle_core::Error::Msg("one output for each layer".into()))
    }

    /// The same on the CPU, as plain vectors.
    pub(crate) fn outputs<const N: usize>(
        cpu: &Cpu,
        layers: [&Linear; N],
        x: &Tensor,
    ) -> Result<[Vec<f32>; N]> {
        let n = x.dim(0)?;
        let mut matrices = Vec::with_capacity(N);
        for layer in layers {
            matrices.push(layer.weight.matrix()?);
        }
        let mut outs = read([x], |[x]| {
            // SAFETY: a product writes every element of its output.
            unsafe {
                filled(layers.map(|layer| n * layer.rows), |mut outs| {
                    matmul(&cpu.pool, &matrices, x, n, &mut outs)
                })
            }
        })?;
        for (layer, out) in layers.iter().zip(&mut outs) {
            if let Some(bias) = &layer.bias {
                elementwise::add_rows(cpu, out, bias);
            }
        }
        Ok(outs)
    }

    /// The weights as the CPU kernels take them.
    pub(crate) fn matrix(&self) -> Result<&Matrix> {
        self.weight.matrix()
    }

    /// Outputs.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The bias, if there is one.
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    fn on_candle(&self, device: &candle_core::Device, x: &Tensor) -> Result<Tensor> {
        let y = match &self.weight {
            Weights::Blocks(weight) => weight.forward(x)?,
            Weights::Dense(weight) => {
                x.to_dtype(weight.dtype())?.matmul(&weight.t()?)?.to_dtype(candle_core::DType::F32)?
            }
            Weights::Cpu(_) => candle_core::bail!("the weights were loaded for the CPU"),
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(&Tensor::new(bias.as_slice(), device)?),
            None => Ok(y),
        }
    }
}

/// Candle's name for a block type; `None` for floats and for types that candle lacks.
fn ggml_type(dtype: DType) -> Option<GgmlDType> {
    Some(match dtype {
        DType::Q4_0 => GgmlDType::Q4_0,
        DType::Q4_1 => GgmlDType::Q4_1,
        DType::Q5_0 => GgmlDType::Q5_0,
        DType::Q5_1 => GgmlDType::Q5_1,
        DType::Q8_0 => GgmlDType::Q8_0,
        DType::Q2K => GgmlDType::Q2K,
        DType::Q3K => GgmlDType::Q3K,
        DType::Q4K => GgmlDType::Q4K,
        DType::Q5K => GgmlDType::Q5K,
        DType::Q6K => GgmlDType::Q6K,
        _ => return None,
    })
}

/// The float type that weights of `dtype` have on `device`, whose kernels want both operands alike. Candle's CPU kernels
/// (in tests) take `f32`.
fn dense(dtype: DType, device: &candle_core::Device) -> candle_core::DType {
    match dtype {
        _ if device.is_cpu() => candle_core::DType::F32,
        DType::F32 => candle_core::DType::F32,
        DType::F16 | DType::Affine8 => candle_core::DType::F16,
        _ => candle_core::DType::BF16,
    }
}

/// The bytes at an address that candle's block types may be read from: copied if they lie elsewhere.
fn aligned(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes.as_ptr().addr() % align_of::<f32>() {
        0 => Cow::Borrowed(bytes),
        // The allocator aligns every vector of this size far above four bytes.
        _ => Cow::Owned(bytes.to_vec()),
    }
}
