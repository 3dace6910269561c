//! Linear layers, and embeddings looked up in their weights.

use mlx_rs::error::Result;
use mlx_rs::{Array, Dtype};

use crate::ops::Quantised;

/// A matrix `[rows, cols]`, or a stack of them `[n, rows, cols]`.
#[derive(Debug, Clone)]
pub(crate) enum Weights {
    /// Floats of the model's type.
    Dense(Array),
    /// In MLX's own form.
    Quantised(Quantised),
}

/// A loaded `y = x · weightᵀ + bias`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Weights,
    /// `[rows]`.
    pub(crate) bias: Option<Array>,
}

impl Weights {
    /// `[n, cols]` to `[n, rows]`.
    pub(crate) fn matmul(&self, x: &Array) -> Result<Array> {
        match self {
            Weights::Dense(weight) => x.matmul(weight.transpose()?),
            Weights::Quantised(weight) => weight.matmul(x),
        }
    }

    /// `[…, 1, cols]` to `[…, 1, rows]`, each with the matrix of the stack that `experts` names.
    pub(crate) fn gather_matmul(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        match self {
            Weights::Dense(weight) => {
                mlx_rs::ops::gather_mm(x, weight.swap_axes(-1, -2)?, None, Some(experts), sorted)
            }
            Weights::Quantised(weight) => weight.gather_matmul(x, experts, sorted),
        }
    }

    /// Rows `rows` as floats: `[n, cols]`.
    pub(crate) fn lookup(&self, rows: &Array, dtype: Dtype) -> Result<Array> {
        match self {
            Weights::Dense(weight) => weight.take_axis(rows, 0),
            Weights::Quantised(weight) => weight.lookup(rows, dtype),
        }
    }

    /// All arrays, to be computed.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Weights::Dense(weight) => vec![weight],
            Weights::Quantised(weight) => {
                [&weight.words, &weight.scales].into_iter().chain(&weight.biases).collect()
            }
        }
    }
}

impl Linear {
    /// `[n, cols]` to `[n, rows]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let y = self.weight.matmul(x)?;
        match &self.bias {
            Some(bias) => y.add(bias),
            None => Ok(y),
        }
    }
}
