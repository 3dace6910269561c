//! The feed-forward part of a layer with one MLP, and its non-linearity.

use mlx_rs::error::Result;
use mlx_rs::{Array, nn, ops};
use perch_model::Activation;

use crate::linear::Linear;
use crate::ops::scalar;

/// A loaded `down(act(gate(x), up(x)))`, or `down(act(up(x)))` without a gate.
#[derive(Debug)]
pub(crate) struct Mlp {
    /// `[ff, hidden]`.
    pub(crate) gate: Option<Linear>,
    /// `[ff, hidden]`.
    pub(crate) up: Linear,
    /// `[hidden, ff]`.
    pub(crate) down: Linear,
    /// The non-linearity.
    pub(crate) activation: Activation,
}

impl Mlp {
    /// `[n, hidden]` to `[n, hidden]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let gate = self.gate.as_ref().map(|gate| gate.forward(x)).transpose()?;
        self.down.forward(&activate(self.activation, gate, self.up.forward(x)?)?)
    }
}

/// The non-linearity of `gate` and `up`, of `up` alone where there is no gate.
pub(crate) fn activate(activation: Activation, gate: Option<Array>, up: Array) -> Result<Array> {
    if let (Activation::ClampedSwiglu { alpha, limit }, Some(gate)) = (activation, &gate) {
        let number = |value| scalar(value, up.dtype());
        let gate = ops::minimum(gate, number(limit)?)?;
        let up = ops::clip(&up, (&number(-limit)?, &number(limit)?))?.add(number(1.0)?)?;
        let slope = ops::sigmoid(gate.multiply(number(alpha)?)?)?;
        return gate.multiply(slope)?.multiply(up);
    }
    let act = |x: &Array| match activation {
        Activation::Silu => nn::silu(x),
        Activation::GeluTanh => nn::gelu_approximate(x),
        Activation::Gelu => nn::gelu(x),
        other => Err(mlx_rs::error::Exception::custom(format!("the activation {other:?} needs a gate"))),
    };
    match gate {
        Some(gate) => act(&gate)?.multiply(up),
        None => act(&up),
    }
}
