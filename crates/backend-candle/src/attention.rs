//! Attention layers: projections around the kernels of [`crate::cpu::attention`], or candle's.

use candle_core::{D, Result, Tensor};

use crate::contiguous::ContiguousKv;
use crate::cpu::attention::{self as kernels, Step};
use crate::cpu::pages::PageTable;
use crate::cpu::rope::Rotation;
use crate::device::{Device, filled, read};
use crate::linear::Linear;
use crate::norm::Norm;
use crate::rope::Angles;
use perch_engine::batch::{Batch, Span};
use perch_engine::kv::KvCache;

/// Sizes and masks of an attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
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
}

/// A loaded attention layer.
#[derive(Debug)]
pub(crate) struct Attention {
    /// Sizes and masks.
    pub(crate) heads: Heads,
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
    /// A logit per head that takes part in the softmax.
    pub(crate) sinks: Option<Vec<f32>>,
}

/// The KV of a step's sequences, where its device keeps it.
pub(crate) enum StepKv<'a> {
    /// Pages of the CPU kernels.
    Paged(PageTable<'a>),
    /// Tensors of candle's kernels.
    Contiguous(&'a KvCache<ContiguousKv>),
}

/// What every layer of a step needs.
pub(crate) struct Pass<'a> {
    /// Where it runs.
    pub(crate) device: &'a Device,
    /// The tokens.
    pub(crate) batch: &'a Batch,
    /// One for each rotary table of the model.
    pub(crate) angles: &'a [Angles],
    /// The sequences' KV.
    pub(crate) kv: StepKv<'a>,
}

impl Attention {
    /// `[tokens, hidden]` to `[tokens, heads * head_dim]`, before the output projection: the caller may want it for
    /// some rows only. Appends the tokens' keys and values to the KV of layer `layer`.
    pub(crate) fn forward(&self, pass: &Pass<'_>, layer: usize, x: &Tensor) -> Result<Tensor> {
        let qkv = Linear::forward_all(pass.device, [&self.q, &self.k, &self.v], x)?;
        let angles = self.rope.map(|rope| &pass.angles[rope]);
        match &pass.kv {
            StepKv::Paged(table) => self.on_pages(pass, (layer, table), angles, &qkv),
            StepKv::Contiguous(cache) => self.on_candle(pass, (layer, cache), angles, qkv),
        }
    }

    fn on_pages(
        &self,
        pass: &Pass<'_>,
        (layer, table): (usize, &PageTable<'_>),
        angles: Option<&Angles>,
        [q, k, v]: &[Tensor; 3],
    ) -> Result<Tensor> {
        let Device::Cpu(cpu) = pass.device else { candle_core::bail!("pages are for the CPU") };
        // Layers without rotation read an empty table in its place.
        let (cos, sin) = angles.map_or((q, q), |angles| (&angles.cos, &angles.sin));
        let [out] = read([q, k, v, cos, sin], |[q, k, v, cos, sin]| {
            let rotation =
                angles.map(|angles| Rotation { cos, sin, half: angles.half, layout: angles.layout });
            let step = Step {
                heads: &self.heads,
                layer,
                q_norm: self.q_norm.as_ref().map(Norm::weights),
                k_norm: self.k_norm.as_ref().map(Norm::weights),
                rotation,
                sinks: self.sinks.as_deref(),
                table,
                spans: &pass.batch.spans,
                q,
                k,
                v,
            };
            // SAFETY: every token and head of the output is a row of one tile, which writes it.
            unsafe { filled([q.len()], |[out]| kernels::attend(cpu, &step, out)) }
        })?;
        pass.device.tensor(out, q.dim(0)?)
    }

    fn on_candle(
        &self,
        pass: &Pass<'_>,
        (layer, cache): (usize, &KvCache<ContiguousKv>),
        angles: Option<&Angles>,
        [q, k, v]: [Tensor; 3],
    ) -> Result<Tensor> {
        let Heads { heads, kv_heads, head_dim, .. } = self.heads;
        let tokens = q.dim(0)?;
        let stage = |x: Tensor, heads: usize, norm: Option<&Norm>| -> Result<Tensor> {
            let mut x = x.reshape((tokens, heads, head_dim))?;
            if let Some(norm) = norm {
                x = norm.forward(pass.device, &x)?;
            }
            angles.map_or(Ok(x.clone()), |angles| angles.rotate(&x))
        };
        let q = stage(q, heads, self.q_norm.as_ref())?;
        let k = stage(k, kv_heads, self.k_norm.as_ref())?;
        let v = v.reshape((tokens, kv_heads, head_dim))?;
        let mut outs = Vec::with_capacity(pass.batch.spans.len());
        for span in &pass.batch.spans {
            let rows = |x: &Tensor| x.narrow(0, span.start, span.len)?.transpose(0, 1)?.contiguous();
            let first = self.heads.window.map_or(0, |window| (span.position + 1).saturating_sub(window));
            let sequence = cache.get(span.seq).map_err(candle_core::Error::wrap)?;
            let kv = sequence.append(layer, [rows(&k)?, rows(&v)?], span.position, first)?;
            let out = self.scores_and_values(&rows(&q)?, &kv, (span, first))?;
            outs.push(out.transpose(0, 1)?.reshape((span.len, heads * head_dim))?);
        }
        Tensor::cat(&outs, 0)
    }

    /// `q`, `[heads, n, head_dim]`, over keys and values `[kv_heads, total, head_dim]` from position `first` on.
    fn scores_and_values(
        &self,
        q: &Tensor,
        [k, v]: &[Tensor; 2],
        (span, first): (&Span, usize),
    ) -> Result<Tensor> {
        let Heads { heads, kv_heads, head_dim, scale, softcap, .. } = self.heads;
        let (n, total) = (q.dim(1)?, k.dim(1)?);
        let dims = [32, 64, 72, 80, 96, 128, 256, 512];
        if n == 1 && q.device().is_metal() && self.sinks.is_none() && dims.contains(&head_dim) {
            // Metal's fused kernel for one query; the window is already cut out of `k` and `v`.
            let (q, k, v) = (q.to_dtype(k.dtype())?.unsqueeze(0)?, k.unsqueeze(0)?, v.unsqueeze(0)?);
            let out = candle_nn::ops::sdpa(&q, &k, &v, None, false, scale, softcap.unwrap_or(1.0))?;
            return out.squeeze(0)?.to_dtype(candle_core::DType::F32);
        }
        let keys = k.transpose(1, 2)?.contiguous()?;
        let values = v.contiguous()?;
        // Some queries at a time: scores must not grow with the context times the prompt.
        let chunk = (MAX_SCORES / (heads * total)).max(1);
        let mut outs = Vec::new();
        for start in (0..n).step_by(chunk) {
            let count = chunk.min(n - start);
            let rows = heads / kv_heads * count;
            let q = (q.narrow(1, start, count)? * f64::from(scale))?.reshape((kv_heads, rows, head_dim))?;
            let scores = q.to_dtype(k.dtype())?.matmul(&keys)?.to_dtype(candle_core::DType::F32)?;
            let scores = match softcap {
                Some(cap) => ((scores / f64::from(cap))?.tanh()? * f64::from(cap))?,
                None => scores,
            };
            let scores = scores.reshape((heads, count, total))?;
            let mask = self.mask(span.position + start..span.position + start + count, first, total);
            let mask = Tensor::from_vec(mask, (1, count, total), q.device())?;
            let weights = self.softmax(&scores.broadcast_add(&mask)?)?;
            let weights = weights.reshape((kv_heads, rows, total))?.to_dtype(v.dtype())?;
            let out = weights.matmul(&values)?.to_dtype(candle_core::DType::F32)?;
            outs.push(out.reshape((heads, count, head_dim))?);
        }
        Tensor::cat(&outs, 1)
    }

    /// Softmax over the last dimension of `[heads, n, total]`, with the sinks counted in.
    fn softmax(&self, scores: &Tensor) -> Result<Tensor> {
        let Some(sinks) = &self.sinks else { return candle_nn::ops::softmax_last_dim(scores) };
        let (heads, n, total) = scores.dims3()?;
        let sinks = Tensor::new(sinks.as_slice(), scores.device())?.reshape((heads, 1, 1))?;
        let sinks = sinks.broadcast_as((heads, n, 1))?.contiguous()?;
        let weights = candle_nn::ops::softmax_last_dim(&Tensor::cat(&[scores, &sinks], D::Minus1)?)?;
        weights.narrow(2, 0, total)?.contiguous()
    }

    /// 0 where the query at each of `positions` sees the key, −∞ elsewhere, for `total` keys from `first` on.
    fn mask(&self, positions: std::ops::Range<usize>, first: usize, total: usize) -> Vec<f32> {
        let window = self.heads.window.unwrap_or(usize::MAX);
        let sees = |position: usize, key: usize| key <= position && position - key < window;
        let value = |sees| if sees { 0.0 } else { f32::NEG_INFINITY };
        positions.flat_map(|p| (first..first + total).map(move |key| value(sees(p, key)))).collect()
    }
}

/// Scores that exist at once at most: 64 MB.
const MAX_SCORES: usize = 1 << 24;
