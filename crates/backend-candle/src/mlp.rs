//! The feed-forward part of a layer with one MLP.

use candle_core::{Result, Tensor};
use perch_model::Activation;

use crate::cpu::elementwise;
use crate::device::Device;
use crate::linear::Linear;

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
    pub(crate) fn forward(&self, device: &Device, x: &Tensor) -> Result<Tensor> {
        let inner = match device {
            Device::Cpu(cpu) => {
                let (gate, mut up) = match &self.gate {
                    Some(gate) => {
                        let [gate, up] = Linear::outputs(cpu, [gate, &self.up], x)?;
                        (Some(gate), up)
                    }
                    None => {
                        let [up] = Linear::outputs(cpu, [&self.up], x)?;
                        (None, up)
                    }
                };
                elementwise::activate(cpu, self.activation, gate.as_deref(), &mut up);
                device.tensor(up, x.dim(0)?)?
            }
            Device::Candle(_) => {
                let gate = self.gate.as_ref().map(|gate| gate.forward(device, x)).transpose()?;
                activate(self.activation, gate, self.up.forward(device, x)?)?
            }
        };
        self.down.forward(device, &inner)
    }
}

/// The non-linearity with candle's kernels.
fn activate(activation: Activation, gate: Option<Tensor>, up: Tensor) -> Result<Tensor> {
    if let (Activation::ClampedSwiglu { alpha, limit }, Some(gate)) = (activation, &gate) {
        let gate = gate.minimum(limit)?;
        let up = (up.clamp(-limit, limit)? + 1.0)?;
        return (&gate * candle_nn::ops::sigmoid(&(&gate * f64::from(alpha))?)?)? * up;
    }
    let act = |x: &Tensor| match activation {
        Activation::Silu => x.silu(),
        Activation::GeluTanh => x.gelu(),
        Activation::Gelu => x.gelu_erf(),
        other => candle_core::bail!("the activation {other:?} needs a gate"),
    };
    match gate {
        Some(gate) => act(&gate)? * up,
        None => act(&up),
    }
}
