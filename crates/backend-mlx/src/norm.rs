//! Norms.

use mlx_rs::error::Result;
use mlx_rs::{Array, fast};
use perch_model::NormKind;

/// A loaded norm.
#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) kind: NormKind,
    /// `[width]`, the stored offset added.
    pub(crate) weight: Array,
    /// `[width]`.
    pub(crate) bias: Option<Array>,
    pub(crate) eps: f32,
}

impl Norm {
    /// The norm of every row (of the last dimension).
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        match self.kind {
            NormKind::Rms => fast::rms_norm(x, Some(&self.weight), self.eps),
            NormKind::Layer => fast::layer_norm(x, &self.weight, self.bias.as_ref(), self.eps),
        }
    }
}
