//! Rotary tables: MLX's fused kernel, each row of a batch at a position of its own.

use mlx_rs::error::Result;
use mlx_rs::{Array, fast};
use perch_model::RopeLayout;

use crate::ops::scalar;

/// A loaded rotary table.
#[derive(Debug)]
pub(crate) struct Rope {
    /// Wavelengths over 2π, `[dims / 2]`: MLX divides positions by them.
    wavelengths: Array,
    /// Elements of a head that rotate.
    dims: i32,
    /// Whether pairs are `(2i, 2i + 1)`.
    interleaved: bool,
    /// Multiplies what rotates.
    factor: f32,
}

impl Rope {
    /// Takes `rope` to the device.
    pub(crate) fn new(rope: &perch_model::Rope) -> Self {
        let wavelengths: Vec<f32> = rope.inv_freq.iter().map(|frequency| 1.0 / frequency).collect();
        let half = crate::ops::dim(wavelengths.len());
        Self {
            wavelengths: Array::from_slice(&wavelengths, &[half]),
            dims: 2 * half,
            interleaved: rope.layout == RopeLayout::Interleaved,
            factor: rope.factor,
        }
    }

    /// Rotates `x`, `[tokens, heads, 1, head_dim]`, each token to its place in `positions`, `[tokens]`.
    pub(crate) fn rotate(&self, x: &Array, positions: &Array) -> Result<Array> {
        let scaled = (self.factor != 1.0).then(|| self.scale(x)).transpose()?;
        let x = scaled.as_ref().unwrap_or(x);
        fast::rope_dynamic(x, self.dims, self.interleaved, None, 1.0, positions, &self.wavelengths)
    }

    /// Multiplies the elements that rotate, as a table times the factor would.
    fn scale(&self, x: &Array) -> Result<Array> {
        let width = x.dim(-1);
        if width == self.dims {
            return x.multiply(scalar(self.factor, x.dtype())?);
        }
        let factors: Vec<f32> = (0..width).map(|i| if i < self.dims { self.factor } else { 1.0 }).collect();
        x.multiply(Array::from_slice(&factors, &[width]).as_dtype(x.dtype())?)
    }
}

/// The positions of a batch's tokens.
pub(crate) fn positions(all: impl Iterator<Item = usize>) -> Array {
    let all: Vec<i32> = all.map(crate::ops::dim).collect();
    Array::from_slice(&all, &[crate::ops::dim(all.len())])
}
