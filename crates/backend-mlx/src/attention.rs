//! Attention layers.

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::fast::{ScaledDotProductAttentionMask as Mask, scaled_dot_product_attention};
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::ops::{concatenate, softmax_axis};
use perch_engine::batch::{Batch, Span};
use perch_engine::kv::KvCache;

use crate::kv::ArrayKv;
use crate::linear::Linear;
use crate::norm::Norm;
use crate::ops::{dim, scalar, softcap};
use crate::rope::Rope;

/// A loaded attention layer.
#[derive(Debug)]
pub(crate) struct Attention {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; divides `heads`.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) head_dim: usize,
    /// Position `p` sees keys in `(p - window, p]`.
    pub(crate) window: Option<usize>,
    /// Multiplies the scores.
    pub(crate) scale: f32,
    /// `cap * tanh(score / cap)`.
    pub(crate) softcap: Option<f32>,
    /// `[heads * head_dim, hidden]`.
    pub(crate) q: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub(crate) k: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub(crate) v: Linear,
    /// `[hidden, heads * head_dim]`.
    pub(crate) o: Linear,
    /// Norm on each query head.
    pub(crate) q_norm: Option<Norm>,
    /// Norm on each key head.
    pub(crate) k_norm: Option<Norm>,
    /// Which rotary table.
    pub(crate) rope: Option<usize>,
    /// A logit per head that takes part in the softmax, `[heads]`.
    pub(crate) sinks: Option<Array>,
}

/// What every layer of a step needs.
pub(crate) struct Pass<'a> {
    /// Which tokens go where.
    pub(crate) batch: &'a Batch,
    /// The tokens, `[tokens]`: those of the batch, or what has been drawn and is not read yet.
    pub(crate) tokens: Array,
    /// Their positions, `[tokens]`.
    pub(crate) positions: Array,
    /// The model's rotary tables.
    pub(crate) ropes: &'a [Rope],
    /// The sequences' KV.
    pub(crate) kv: &'a mut KvCache<ArrayKv>,
}

impl Attention {
    /// `[tokens, hidden]` to `[tokens, heads * head_dim]`, before the output projection: the caller may want it for some rows only.
    /// Appends the tokens' keys and values to the KV of layer `layer`.
    pub(crate) fn forward(&self, pass: &mut Pass<'_>, layer: usize, x: &Array) -> Result<Array> {
        let (tokens, width) = (dim(pass.batch.tokens.len()), dim(self.head_dim));
        let rope = self.rope.map(|rope| &pass.ropes[rope]);
        let stage =
            |linear: &Linear, heads: usize, norm: Option<&Norm>, rope: Option<&Rope>| -> Result<Array> {
                let mut y = linear.forward(x)?.reshape(&[tokens, dim(heads), 1, width])?;
                if let Some(norm) = norm {
                    y = norm.forward(&y)?;
                }
                rope.map_or(Ok(y.clone()), |rope| rope.rotate(&y, &pass.positions))
            };
        let q = stage(&self.q, self.heads, self.q_norm.as_ref(), rope)?;
        let k = stage(&self.k, self.kv_heads, self.k_norm.as_ref(), rope)?;
        let v = stage(&self.v, self.kv_heads, None, None)?;
        let mut outs = Vec::with_capacity(pass.batch.spans.len());
        for span in &pass.batch.spans {
            // `[n, heads, 1, width]` to `[1, heads, n, width]`
            let rows = |x: &Array| {
                x.try_index((dim(span.start)..dim(span.start + span.len), .., .., ..))?
                    .transpose_axes(&[2, 1, 0, 3])
            };
            let first = self.window.map_or(0, |window| (span.position + 1).saturating_sub(window));
            let sequence = pass.kv.get_mut(span.seq).map_err(|error| Exception::custom(error.to_string()))?;
            let [keys, values] = sequence.append(layer, [rows(&k)?, rows(&v)?], span.position, first)?;
            let out = self.attend(&rows(&q)?, [&keys, &values], span, first)?;
            outs.push(out.transpose_axes(&[0, 2, 1, 3])?.reshape(&[dim(span.len), dim(self.heads) * width])?);
        }
        match &outs[..] {
            [one] => Ok(one.clone()),
            _ => concatenate(&outs, 0),
        }
    }

    /// `q`, `[1, heads, n, head_dim]`, over keys and values `[1, kv_heads, total, head_dim]` from position `first` on.
    fn attend(&self, q: &Array, [keys, values]: [&Array; 2], span: &Span, first: usize) -> Result<Array> {
        if let Some(cap) = self.softcap {
            return self.attend_capped(q, [keys, values], (span, first), cap);
        }
        let sinks = self.sinks.as_ref();
        if span.len == 1 {
            // The window is already cut out.
            return scaled_dot_product_attention(q, keys, values, self.scale, None::<Mask<'_>>, sinks);
        }
        match self.window {
            Some(window) if span.position + span.len > window => {
                let mask = mask(span, first, window);
                scaled_dot_product_attention(q, keys, values, self.scale, Mask::Array(&mask), sinks)
            }
            _ => scaled_dot_product_attention(q, keys, values, self.scale, Mask::Causal, sinks),
        }
    }

    /// The same step by step, for scores that are capped before the softmax (Gemma 2).
    fn attend_capped(
        &self,
        q: &Array,
        [keys, values]: [&Array; 2],
        (span, first): (&Span, usize),
        cap: f32,
    ) -> Result<Array> {
        let (heads, kv_heads, width) = (dim(self.heads), dim(self.kv_heads), dim(self.head_dim));
        let (n, dtype) = (dim(span.len), q.dtype());
        let q = q.multiply(scalar(self.scale, dtype)?)?;
        let q = q.reshape(&[1, kv_heads, heads / kv_heads, n, width])?;
        let scores = q.matmul(keys.expand_dims(2)?.swap_axes(-1, -2)?)?;
        let mut scores = softcap(&scores, cap)?;
        if span.len > 1 {
            let seen = mask(span, first, self.window.unwrap_or(usize::MAX));
            scores = mlx_rs::ops::select(&seen, &scores, scalar(f32::NEG_INFINITY, dtype)?)?;
        }
        let weights = softmax_axis(&scores, -1, true)?;
        weights.matmul(values.expand_dims(2)?)?.reshape(&[1, heads, n, width])
    }
}

/// Whether each token of `span` sees each key from position `first` on: `[n, total]`, booleans.
fn mask(span: &Span, first: usize, window: usize) -> Array {
    let end = span.position + span.len;
    let sees = |position: usize, key: usize| key <= position && position - key < window;
    let rows = (span.position..end).flat_map(|p| (first..end).map(move |key| sees(p, key)));
    let seen: Vec<bool> = rows.collect();
    Array::from_slice(&seen, &[dim(span.len), dim(end - first)])
}
