//! Mixture of experts: every token goes to the experts that the router likes best, all on the device.

use mlx_rs::error::Result;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{argpartition_axis, argsort, softmax_axis};
use mlx_rs::{Array, Dtype};
use perch_model::{Activation, Scoring};

use crate::linear::{Linear, Weights};
use crate::mlp::{Mlp, activate};
use crate::ops::{dim, scalar};

/// From this many pairs of token and expert on, pairs are sorted by expert so that each matrix is read once.
const SORT_FROM: usize = 64;

/// The same layer of all experts.
#[derive(Debug)]
pub(crate) struct Stack {
    /// `[experts, rows, cols]`.
    pub(crate) weight: Weights,
    /// `[experts, rows]`.
    pub(crate) bias: Option<Array>,
}

/// A loaded mixture.
#[derive(Debug)]
pub(crate) struct Moe {
    /// `[experts, hidden]`.
    pub(crate) router: Linear,
    pub(crate) gate: Option<Stack>,
    pub(crate) up: Stack,
    pub(crate) down: Stack,
    pub(crate) activation: Activation,
    pub(crate) experts: usize,
    /// Experts used per token; at least 1 and at most all.
    pub(crate) top_k: usize,
    /// How router logits become weights.
    pub(crate) scoring: Scoring,
    /// Multiplies the weighted sum.
    pub(crate) scale: f32,
    /// An expert that every token uses.
    pub(crate) shared: Option<Mlp>,
}

impl Stack {
    /// `[…, 1, cols]` to `[…, 1, rows]`, each row with the expert that `experts`, `[…]`, names.
    fn forward(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        let y = self.weight.gather_matmul(x, experts, sorted)?;
        match &self.bias {
            Some(bias) => y.add(bias.take_axis(experts, 0)?.expand_dims(-2)?),
            None => Ok(y),
        }
    }
}

impl Moe {
    /// `[n, hidden]` to `[n, hidden]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let (chosen, weights) = self.route(x)?;
        let y = self.mix(x, &chosen)?;
        let weights = weights.as_dtype(x.dtype())?.expand_dims(-1)?;
        let mixed = y.multiply(weights)?.sum_axis(1, false)?;
        match &self.shared {
            Some(shared) => mixed.add(shared.forward(x)?),
            None => Ok(mixed),
        }
    }

    /// The experts of each token and their weights in f32, both `[n, top_k]`.
    fn route(&self, x: &Array) -> Result<(Array, Array)> {
        let logits = self.router.forward(x)?.as_dtype(Dtype::Float32)?;
        let k = dim(self.top_k);
        let chosen = match self.top_k < self.experts {
            true => argpartition_axis(logits.negative()?, k - 1, -1)?.try_index((.., ..k))?,
            false => argsort(&logits.negative()?)?,
        };
        let weights = match self.scoring {
            Scoring::Softmax => softmax_axis(&logits, -1, true)?.take_along_axis(&chosen, -1)?,
            _ => softmax_axis(logits.take_along_axis(&chosen, -1)?, -1, true)?,
        };
        Ok((
            chosen,
            if self.scale == 1.0 {
                weights
            } else {
                weights.multiply(scalar(self.scale, Dtype::Float32)?)?
            },
        ))
    }

    /// What each token's experts make of it: `[n, top_k, hidden]`.
    fn mix(&self, x: &Array, chosen: &Array) -> Result<Array> {
        let (n, hidden, k) = (x.dim(0), x.dim(1), dim(self.top_k));
        if (n * k) as usize >= SORT_FROM {
            let flat = chosen.reshape(&[-1])?;
            let order = argsort(&flat)?;
            let back = argsort(&order)?;
            let rows = x.take_axis(order.floor_divide(Array::from_int(k))?.as_dtype(Dtype::Uint32)?, 0)?;
            let y = self.experts(&rows.expand_dims(1)?, &flat.take_axis(&order, 0)?, true)?;
            return y.squeeze_axes(&[1])?.take_axis(back, 0)?.reshape(&[n, k, hidden]);
        }
        let y = self.experts(&x.reshape(&[n, 1, 1, hidden])?, chosen, false)?;
        y.squeeze_axes(&[2])
    }

    fn experts(&self, x: &Array, chosen: &Array, sorted: bool) -> Result<Array> {
        let gate = self.gate.as_ref().map(|gate| gate.forward(x, chosen, sorted)).transpose()?;
        let inner = activate(self.activation, gate, self.up.forward(x, chosen, sorted)?)?;
        self.down.forward(&inner, chosen, sorted)
    }
}
