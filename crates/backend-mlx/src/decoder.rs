//! `Decoder`: the one forward pass. It walks the loaded layers of any spec.

use mlx_rs::error::Result;
use mlx_rs::{Array, Dtype};
use perch_engine::batch::Batch;

use crate::attention::{Attention, Pass};
use crate::linear::{Linear, Weights};
use crate::mlp::Mlp;
use crate::moe::Moe;
use crate::norm::Norm;
use crate::ops::{dim, scalar, softcap};
use crate::rope::Rope;

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The type of activations.
    pub(crate) dtype: Dtype,
    /// `[vocab_size, hidden]`.
    pub(crate) tokens: Weights,
    /// `[context_length, hidden]`.
    pub(crate) positions: Option<Weights>,
    /// Multiplies a token's row.
    pub(crate) embedding_scale: f32,
    /// Rotary tables.
    pub(crate) ropes: Vec<Rope>,
    /// The layers, first to last.
    pub(crate) layers: Vec<Layer>,
    /// Norm before the head.
    pub(crate) final_norm: Norm,
    /// Rows to logits.
    pub(crate) head: Head,
}

/// A loaded residual block.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Norm before the mixer.
    pub(crate) pre_mixer: Option<Norm>,
    /// Softmax attention.
    pub(crate) attention: Attention,
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

/// What works on single positions.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a model has a hundred of them at most, and both kinds are large"
)]
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
    /// Describes the pass over a batch whose KV has been reserved: the wanted rows of logits in f32, `[wanted, vocab_size]`, or
    /// `None` if there are none. Nothing is computed yet.
    pub(crate) fn forward(&self, pass: &mut Pass<'_>) -> Result<Option<Array>> {
        let batch = pass.batch;
        let mut x = self.embed(pass)?;
        for (i, layer) in self.layers.iter().enumerate() {
            let mut mixed = layer.attention.forward(pass, i, &norm(&layer.pre_mixer, &x)?)?;
            if i + 1 == self.layers.len() {
                // From here on no row looks at another, so only those that become logits go on.
                if batch.wanted.is_empty() {
                    return Ok(None);
                }
                (x, mixed) = (select(batch, x)?, select(batch, mixed)?);
            }
            let branch = norm(&layer.post_mixer, &layer.attention.o.forward(&mixed)?)?;
            x = join(x, branch, layer.residual_scale)?;
            let input = norm(&layer.pre_ffn, &x)?;
            let branch = match &layer.ffn {
                Ffn::Dense(mlp) => mlp.forward(&input)?,
                Ffn::Moe(moe) => moe.forward(&input)?,
            };
            x = join(x, norm(&layer.post_ffn, &branch)?, layer.residual_scale)?;
        }
        self.head.forward(&self.final_norm.forward(&x)?).map(Some)
    }

    fn embed(&self, pass: &Pass<'_>) -> Result<Array> {
        let x = self.tokens.lookup(&pass.tokens, self.dtype)?;
        let x = if self.embedding_scale == 1.0 {
            x
        } else {
            x.multiply(scalar(self.embedding_scale, self.dtype)?)?
        };
        match &self.positions {
            Some(table) => {
                let positions: Vec<u32> = pass.batch.positions().map(|position| position as u32).collect();
                x.add(table.lookup(&indices(&positions), self.dtype)?)
            }
            None => Ok(x),
        }
    }
}

impl Head {
    fn forward(&self, x: &Array) -> Result<Array> {
        let mut logits = self.linear.forward(x)?.as_dtype(Dtype::Float32)?;
        if self.scale != 1.0 {
            logits = logits.multiply(scalar(self.scale, Dtype::Float32)?)?;
        }
        self.softcap.map_or(Ok(logits.clone()), |cap| softcap(&logits, cap))
    }
}

fn norm(norm: &Option<Norm>, x: &Array) -> Result<Array> {
    norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(x))
}

fn join(x: Array, branch: Array, scale: f32) -> Result<Array> {
    if scale == 1.0 { x.add(branch) } else { x.add(branch.multiply(scalar(scale, branch.dtype())?)?) }
}

/// The rows that become logits.
fn select(batch: &Batch, x: Array) -> Result<Array> {
    if batch.wanted.len() == batch.tokens.len() { Ok(x) } else { x.take_axis(indices(&batch.wanted), 0) }
}

/// Numbers of rows, `[n]`.
pub(crate) fn indices(rows: &[u32]) -> Array {
    Array::from_slice(rows, &[dim(rows.len())])
}
