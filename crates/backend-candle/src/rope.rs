//! Rotary tables: angles of a step's positions, computed once and used by every layer.

use candle_core::{Result, Tensor};
use perch_model::{Rope, RopeLayout};

use crate::device::Device;

/// Cosines and sines of a step's tokens under one table.
#[derive(Debug)]
pub(crate) struct Angles {
    /// `[tokens, half]`.
    pub(crate) cos: Tensor,
    /// `[tokens, half]`.
    pub(crate) sin: Tensor,
    /// Pairs that rotate.
    pub(crate) half: usize,
    /// Which elements form a pair.
    pub(crate) layout: RopeLayout,
}

impl Angles {
    /// Angles of `positions` under `rope`. The product of position and frequency is rounded to `f32` first, as the
    /// reference implementations do: at long range the rounding is part of the model.
    pub(crate) fn new(device: &Device, rope: &Rope, positions: &[usize]) -> Result<Self> {
        let half = rope.inv_freq.len();
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        cos.reserve_exact(positions.len() * half);
        sin.reserve_exact(positions.len() * half);
        for position in positions {
            for frequency in &rope.inv_freq {
                let (s, c) = (*position as f32 * frequency).sin_cos();
                cos.push(c * rope.factor);
                sin.push(s * rope.factor);
            }
        }
        let rows = positions.len();
        Ok(Self { cos: device.tensor(cos, rows)?, sin: device.tensor(sin, rows)?, half, layout: rope.layout })
    }

    /// Rotates `x`, `[tokens, heads, head_dim]`, with candle's kernels.
    pub(crate) fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let (tokens, heads, head_dim) = x.dims3()?;
        let rest = head_dim - 2 * self.half;
        let turning = x.narrow(2, 0, 2 * self.half)?.contiguous()?;
        let turned = match self.layout {
            RopeLayout::Half => {
                let x = turning.unsqueeze(0)?;
                candle_nn::rotary_emb::rope_thd(&x, &self.cos, &self.sin)?.squeeze(0)?
            }
            RopeLayout::Interleaved => {
                let x = turning.transpose(0, 1)?.contiguous()?.unsqueeze(0)?;
                candle_nn::rotary_emb::rope_i(&x, &self.cos, &self.sin)?
                    .squeeze(0)?
                    .transpose(0, 1)?
                    .contiguous()?
            }
        };
        if rest == 0 {
            return turned.reshape((tokens, heads, head_dim));
        }
        Tensor::cat(&[&turned, &x.narrow(2, 2 * self.half, rest)?.contiguous()?], 2)
    }
}
