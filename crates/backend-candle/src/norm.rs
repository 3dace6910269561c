//! Norms, and how a branch joins the residual stream.

use candle_core::{Result, Tensor};
use perch_model::NormKind;

use crate::cpu::norm::{self as kernels, NormWeights};
use crate::device::{Device, filled, read};

/// A loaded norm.
#[derive(Debug)]
pub(crate) struct Norm {
    weights: NormWeights,
    /// Weight and bias on the device, where candle's kernels run.
    tensors: Option<(Tensor, Tensor)>,
}

/// How a branch joins: `x += scale * post(branch)`; then `next` is the norm before the next branch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Join<'a> {
    /// Norm on the branch.
    pub(crate) post: Option<&'a Norm>,
    /// Multiplies it.
    pub(crate) scale: f32,
    /// Norm on the sum.
    pub(crate) next: Option<&'a Norm>,
}

impl Norm {
    /// Takes `weights` to `device`.
    pub(crate) fn new(weights: NormWeights, device: &Device) -> Result<Self> {
        let tensors = match device {
            Device::Cpu(_) => None,
            Device::Candle(device) => {
                let bias = weights.bias.clone().unwrap_or_else(|| vec![0.0; weights.weight.len()]);
                Some((Tensor::new(weights.weight.as_slice(), device)?, Tensor::new(bias, device)?))
            }
        };
        Ok(Self { weights, tensors })
    }

    /// The weights, for kernels that fuse the norm.
    pub(crate) fn weights(&self) -> &NormWeights {
        &self.weights
    }

    /// The norm of every row (of the last dimension).
    pub(crate) fn forward(&self, device: &Device, x: &Tensor) -> Result<Tensor> {
        match (device, &self.tensors) {
            (Device::Cpu(cpu), _) => {
                let [out] = read([x], |[x]| {
                    // SAFETY: the kernel writes every row of the output.
                    unsafe { filled([x.len()], |[out]| kernels::norm(cpu, &self.weights, x, out)) }
                })?;
                device.tensor(out, x.dim(0)?)
            }
            (Device::Candle(_), Some((weight, bias))) => {
                let x = x.contiguous()?;
                match self.weights.kind {
                    NormKind::Rms => candle_nn::ops::rms_norm(&x, weight, self.weights.eps),
                    NormKind::Layer => candle_nn::ops::layer_norm(&x, weight, bias, self.weights.eps),
                }
            }
            (Device::Candle(_), None) => candle_core::bail!("the norm was loaded for the CPU"),
        }
    }
}

/// Joins `branch` to the residual stream `x`; returns the new stream and the next branch's input.
pub(crate) fn join(device: &Device, join: Join<'_>, x: &Tensor, branch: &Tensor) -> Result<(Tensor, Tensor)> {
    match device {
        Device::Cpu(cpu) => {
            let [post, next] = [join.post, join.next].map(|norm| norm.map(Norm::weights));
            let how = kernels::Join { post, scale: join.scale, next };
            let (rows, width) = x.dims2()?;
            let [sum, next] = read([x, branch], |[x, branch]| {
                // SAFETY: the kernel writes every row of both outputs before it reads any of it.
                unsafe {
                    filled([rows * width; 2], |[sum, next]| kernels::join(cpu, how, [x, branch], [sum, next]))
                }
            })?;
            Ok((device.tensor(sum, rows)?, device.tensor(next, rows)?))
        }
        Device::Candle(_) => {
            let branch = match join.post {
                Some(post) => post.forward(device, branch)?,
                None => branch.clone(),
            };
            let sum =
                if join.scale == 1.0 { (x + branch)? } else { (x + (branch * f64::from(join.scale))?)? };
            let next = match join.next {
                Some(next) => next.forward(device, &sum)?,
                None => sum.clone(),
            };
            Ok((sum, next))
        }
    }
}
