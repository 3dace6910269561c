//! `ModelSpec::validate`: everything that a backend relies on, checked once against the checkpoint's tensors.
//!
//! After it, every tensor a spec names exists, can be run and has exactly the shape that the spec gives it, so that each
//! size is bounded by what the files really hold; the sizes agree with each other; the numbers are finite.

use crate::selection::Selection;
use crate::stored::shown;
use crate::{
    Attention, Ffn, Layer, Linear, Mixer, Mlp, ModelError, ModelSpec, Moe, Norm, TensorIndex, Weight,
};

/// Tokens of context. Nothing is allocated for it, but backends do arithmetic with it.
const MAX_CONTEXT: usize = 1 << 27;

impl ModelSpec {
    /// Checks the spec against `tensors`.
    ///
    /// # Errors
    /// [`ModelError::InvalidFile`] for a tensor that is missing or has another shape, and for sizes that contradict each
    /// other; [`ModelError::Unsupported`] for a tensor that is stored in a way no backend runs.
    pub fn validate(&self, tensors: &dyn TensorIndex) -> Result<(), ModelError> {
        Check { spec: self, tensors }.all()
    }
}

struct Check<'a> {
    spec: &'a ModelSpec,
    tensors: &'a dyn TensorIndex,
}

impl Check<'_> {
    fn all(&self) -> Result<(), ModelError> {
        let ModelSpec { vocab_size, hidden_size, context_length, embedding, ropes, layers, .. } = self.spec;
        self.require(*vocab_size > 0 && *hidden_size > 0, || "a model without vocabulary or width".into())?;
        self.require(u32::try_from(*vocab_size).is_ok(), || format!("a vocabulary of {vocab_size}"))?;
        self.require((1..=MAX_CONTEXT).contains(context_length), || {
            format!("a context of {context_length}")
        })?;
        self.require(!layers.is_empty(), || "a model without layers".into())?;
        self.weight(&embedding.tokens, *vocab_size, *hidden_size)?;
        if let Some(positions) = &embedding.positions {
            self.weight(positions, *context_length, *hidden_size)?;
        }
        self.number("the embedding's scale", embedding.scale)?;
        for (i, rope) in ropes.iter().enumerate() {
            self.require(!rope.inv_freq.is_empty(), || format!("rotary table {i} is empty"))?;
            let finite = rope.factor.is_finite() && rope.inv_freq.iter().all(|f| f.is_finite());
            self.require(finite, || format!("rotary table {i} is not finite"))?;
        }
        for (i, layer) in layers.iter().enumerate() {
            self.layer(layer).map_err(|error| in_layer(error, i))?;
        }
        self.norm(&self.spec.final_norm, *hidden_size)?;
        self.linear(&self.spec.head.linear, *vocab_size, *hidden_size)?;
        self.number("the head's scale", self.spec.head.scale)?;
        self.cap("the head's softcap", self.spec.head.softcap)
    }

    fn layer(&self, layer: &Layer) -> Result<(), ModelError> {
        let norms = [&layer.pre_mixer, &layer.post_mixer, &layer.pre_ffn, &layer.post_ffn];
        for norm in norms.into_iter().flatten() {
            self.norm(norm, self.spec.hidden_size)?;
        }
        self.number("the residual scale", layer.residual_scale)?;
        match &layer.mixer {
            Mixer::Attention(attention) => self.attention(attention)?,
        }
        match &layer.ffn {
            Ffn::Dense(mlp) => self.mlp(mlp),
            Ffn::Moe(moe) => self.moe(moe),
        }
    }

    fn attention(&self, a: &Attention) -> Result<(), ModelError> {
        let heads = a.heads > 0 && a.kv_heads > 0 && a.head_dim > 0 && a.heads.is_multiple_of(a.kv_heads);
        self.require(heads, || {
            format!("{} heads of width {} with {} key and value heads", a.heads, a.head_dim, a.kv_heads)
        })?;
        let hidden = self.spec.hidden_size;
        let (q, kv) = (self.product(a.heads, a.head_dim)?, self.product(a.kv_heads, a.head_dim)?);
        self.linear(&a.q, q, hidden)?;
        self.linear(&a.k, kv, hidden)?;
        self.linear(&a.v, kv, hidden)?;
        self.linear(&a.o, hidden, q)?;
        for norm in [&a.q_norm, &a.k_norm].into_iter().flatten() {
            self.norm(norm, a.head_dim)?;
        }
        if let Some(sinks) = &a.sinks {
            self.weight(sinks, 1, a.heads)?;
        }
        if let Some(index) = a.rope {
            let fits = self.spec.ropes.get(index).is_some_and(|rope| rope.inv_freq.len() <= a.head_dim / 2);
            self.require(fits, || format!("heads of width {} with rotary table {index}", a.head_dim))?;
        }
        self.require(a.window != Some(0), || "a sliding window of no tokens".into())?;
        self.number("the attention scale", a.scale)?;
        self.cap("the attention softcap", a.softcap)
    }

    fn moe(&self, moe: &Moe) -> Result<(), ModelError> {
        let count = moe.experts.len();
        self.require((1..=count).contains(&moe.top_k), || {
            format!("{} of {count} experts per token", moe.top_k)
        })?;
        self.linear(&moe.router, count, self.spec.hidden_size)?;
        self.number("the experts' scale", moe.scale)?;
        moe.experts.iter().chain(&moe.shared).try_for_each(|mlp| self.mlp(mlp))
    }

    fn mlp(&self, mlp: &Mlp) -> Result<(), ModelError> {
        let (hidden, ff) = (self.spec.hidden_size, mlp.up.rows);
        for linear in mlp.gate.iter().chain([&mlp.up]) {
            self.linear(linear, ff, hidden)?;
        }
        self.linear(&mlp.down, hidden, ff)
    }

    fn norm(&self, norm: &Norm, width: usize) -> Result<(), ModelError> {
        self.weight(&norm.weight, 1, width)?;
        if let Some(bias) = &norm.bias {
            self.weight(bias, 1, width)?;
        }
        self.number("a norm's offset", norm.offset)?;
        self.require(norm.eps.is_finite() && norm.eps >= 0.0, || format!("a norm's epsilon of {}", norm.eps))
    }

    /// A linear layer that must be `rows × cols`.
    fn linear(&self, linear: &Linear, rows: usize, cols: usize) -> Result<(), ModelError> {
        self.require((linear.rows, linear.cols) == (rows, cols), || {
            format!(
                "tensor {} is meant to be {} × {}, but its place in the model is {rows} × {cols}",
                shown(&linear.weight.name),
                linear.rows,
                linear.cols
            )
        })?;
        self.weight(&linear.weight, rows, cols)?;
        match &linear.bias {
            Some(bias) => self.weight(bias, 1, rows),
            None => Ok(()),
        }
    }

    /// A tensor that must be there, runnable, and `rows × cols`.
    fn weight(&self, weight: &Weight, rows: usize, cols: usize) -> Result<(), ModelError> {
        let name = shown(&weight.name);
        let Some(shape) = self.tensors.shape(&weight.name) else {
            return Err(self.tensors.invalid(format!("tensor {name} is missing")));
        };
        let selection = Selection::of(shape, weight)
            .map_err(|reason| self.tensors.invalid(format!("tensor {name} {reason}")))?;
        self.require((selection.rows, selection.cols) == (rows, cols), || {
            format!("tensor {name} has shape {shape:?} where {rows} × {cols} is needed")
        })?;
        match self.tensors.obstacle(&weight.name) {
            Some(obstacle) => Err(ModelError::Unsupported(format!(
                "{}: tensor {name} {obstacle}",
                self.tensors.origin().display()
            ))),
            None => Ok(()),
        }
    }

    fn number(&self, what: &str, value: f32) -> Result<(), ModelError> {
        self.require(value.is_finite(), || format!("{what} is {value}"))
    }

    fn cap(&self, what: &str, value: Option<f32>) -> Result<(), ModelError> {
        self.require(value.is_none_or(|cap| cap.is_finite() && cap > 0.0), || format!("{what} is {value:?}"))
    }

    fn product(&self, a: usize, b: usize) -> Result<usize, ModelError> {
        a.checked_mul(b).ok_or_else(|| self.tensors.invalid(format!("{a} heads of width {b}")))
    }

    fn require(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), ModelError> {
        if holds { Ok(()) } else { Err(self.tensors.invalid(format!("the model cannot be: {}", what()))) }
    }
}

fn in_layer(error: ModelError, layer: usize) -> ModelError {
    match error {
        ModelError::InvalidFile { path, reason } => {
            ModelError::InvalidFile { path, reason: format!("layer {layer}: {reason}") }
        }
        other => other,
    }
}
