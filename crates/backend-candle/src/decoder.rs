//! `Decoder`: the one forward pass. It walks the loaded layers of any spec, on any device.
//!
//! Invariants: rows are independent but for attention, which mixes rows of one run only; every operation keeps one
//! order of accumulation per output. So a token's logits are the same however its run was cut and batched.

use candle_core::{Result, Tensor};
use perch_model::Rope;

use crate::attention::{Attention, Pass, StepKv};
use crate::cpu::elementwise;
use crate::device::Device;
use crate::linear::{Linear, Weights};
use crate::mlp::Mlp;
use crate::moe::Moe;
use crate::norm::{Join, Norm, join};
use crate::rope::Angles;
use perch_engine::batch::Batch;

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Where it runs.
    pub(crate) device: Device,
    /// Width of the residual stream.
    pub(crate) hidden_size: usize,
    /// Token ids to rows.
    pub(crate) embedding: Embedding,
    /// Rotary tables.
    pub(crate) ropes: Vec<Rope>,
    /// The layers, first to last.
    pub(crate) layers: Vec<Layer>,
    /// Norm before the head.
    pub(crate) final_norm: Norm,
    /// Rows to logits.
    pub(crate) head: Head,
}

/// Loaded embeddings.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// `[vocab_size, hidden]`.
    pub(crate) tokens: Weights,
    /// `[context_length, hidden]`.
    pub(crate) positions: Option<Weights>,
    /// Multiplies a token's row.
    pub(crate) scale: f32,
}

/// A loaded residual block.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Norm before the mixer.
    pub(crate) pre_mixer: Option<Norm>,
    /// The mixer.
    pub(crate) mixer: Mixer,
    /// Norm on its output.
    pub(crate) post_mixer: Option<Norm>,
    /// Norm before the feed-forward part.
    pub(crate) pre_ffn: Option<Norm>,
    /// The feed-forward part.
    pub(crate) ffn: Ffn,
    /// Norm on its output.
    pub(crate) post_ffn: Option<Norm>,
    /// Multiplies both branches.
    pub(crate) residual_scale: f32,
}

/// What mixes positions.
#[derive(Debug)]
pub(crate) enum Mixer {
    /// Softmax attention.
    Attention(Attention),
}

/// What works on single positions.
#[derive(Debug)]
pub(crate) enum Ffn {
    /// One MLP.
    Dense(Mlp),
    /// Routed MLPs.
    Moe(Moe),
}

/// The loaded projection to the vocabulary.
#[derive(Debug)]
pub(crate) struct Head {
    /// `[vocab_size, hidden]`.
    pub(crate) linear: Linear,
    /// Multiplies the logits.
    pub(crate) scale: f32,
    /// `cap * tanh(logit / cap)`.
    pub(crate) softcap: Option<f32>,
}

impl Decoder {
    /// Runs `batch`, whose KV has been reserved; returns the wanted rows of logits, `[wanted, vocab_size]`.
    pub(crate) fn forward(&self, batch: &Batch, kv: StepKv<'_>) -> Result<Vec<f32>> {
        let device = &self.device;
        let positions: Vec<usize> = batch.positions().collect();
        let angles = self.ropes.iter().map(|rope| Angles::new(device, rope, &positions));
        let angles = angles.collect::<Result<Vec<_>>>()?;
        let pass = Pass { device, batch, angles: &angles, kv };

        let mut x = self.embedding.forward(device, &batch.tokens, &positions, self.hidden_size)?;
        let mut input = match &self.layers[0].pre_mixer {
            Some(norm) => norm.forward(device, &x)?,
            None => x.clone(),
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let next = self.layers.get(i + 1);
            let Mixer::Attention(attention) = &layer.mixer;
            let mut mixed = attention.forward(&pass, i, &input)?;
            if next.is_none() {
                // From here on no row looks at another, so only those that become logits go on.
                if batch.wanted.is_empty() {
                    return Ok(Vec::new());
                }
                (x, mixed) = (device.select(&x, &batch.wanted)?, device.select(&mixed, &batch.wanted)?);
            }
            let branch = attention.o.forward(device, &mixed)?;
            let joint = Join {
                post: layer.post_mixer.as_ref(),
                scale: layer.residual_scale,
                next: layer.pre_ffn.as_ref(),
            };
            (x, input) = join(device, joint, &x, &branch)?;
            let branch = match &layer.ffn {
                Ffn::Dense(mlp) => mlp.forward(device, &input)?,
                Ffn::Moe(moe) => moe.forward(device, &input)?,
            };
            let next = next.map_or(Some(&self.final_norm), |next| next.pre_mixer.as_ref());
            let joint = Join { post: layer.post_ffn.as_ref(), scale: layer.residual_scale, next };
            (x, input) = join(device, joint, &x, &branch)?;
        }
        self.head.forward(device, &input)
    }
}

impl Embedding {
    fn forward(&self, device: &Device, tokens: &[u32], positions: &[usize], width: usize) -> Result<Tensor> {
        let x = self.tokens.lookup(device, tokens, width)?;
        let x = if self.scale == 1.0 { x } else { (x * f64::from(self.scale))? };
        match &self.positions {
            Some(table) => {
                let positions: Vec<u32> = positions.iter().map(|p| *p as u32).collect();
                x + table.lookup(device, &positions, width)?
            }
            None => Ok(x),
        }
    }
}

impl Head {
    fn forward(&self, device: &Device, x: &Tensor) -> Result<Vec<f32>> {
        match device {
            Device::Cpu(cpu) => {
                let [mut logits] = Linear::outputs(cpu, [&self.linear], x)?;
                elementwise::scale(cpu, &mut logits, self.scale);
                if let Some(cap) = self.softcap {
                    elementwise::softcap(cpu, &mut logits, cap);
                }
                Ok(logits)
            }
            Device::Candle(_) => {
                let mut logits = (self.linear.forward(device, x)? * f64::from(self.scale))?;
                if let Some(cap) = self.softcap.map(f64::from) {
                    logits = ((logits / cap)?.tanh()? * cap)?;
                }
                logits.flatten_all()?.to_vec1()
            }
        }
    }
}
