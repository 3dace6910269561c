//! `ModelSpec`: a decoder as plain data.
//!
//! Holds everything a backend needs to run a model: layer kinds, sizes, norms, activations, rotary tables, attention
//! patterns, experts and the name of every tensor. An architecture is one file in `arch/` that builds this from a
//! checkpoint's metadata; a backend is one executor that walks it. There is no per-architecture forward pass.
//!
//! Invariants, checked by `ModelSpec::validate` before any backend sees a spec:
//! - every `Linear` is `rows × cols` (output × input), row-major, and its weight selects exactly that of a tensor that
//!   exists and is stored in a way that backends run;
//! - `heads` is a multiple of `kv_heads`; sizes are non-zero; rope indices are in range.
//!
//! What a new kind of layer needs: one variant of [`Mixer`] (or [`Ffn`]) with its weights, and its answer in
//! [`Mixer::kv_width`] (what it keeps per token) and [`Mixer::state_len`] (what it keeps per sequence). MLA is a mixer
//! whose KV row is its compressed latent; gated DeltaNet and short convolutions are mixers with a state and no KV row.

use std::ops::Range;

/// A whole decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// The architecture's name as the checkpoint gives it, e.g. `qwen3` or `LlamaForCausalLM`.
    pub architecture: String,
    /// Number of token ids; rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Longest sequence, in tokens, that this spec's rotary tables (or learned positions) are good for.
    pub context_length: usize,
    /// Token (and position) embedding.
    pub embedding: Embedding,
    /// Rotary tables; attention layers refer to them by index, because some models use two.
    pub ropes: Vec<Rope>,
    /// The layers, first to last.
    pub layers: Vec<Layer>,
    /// Norm before the head.
    pub final_norm: Norm,
    /// Projection to the vocabulary.
    pub head: Head,
}

/// Token embedding, with what some models do to its output.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// `[vocab_size, hidden_size]`.
    pub tokens: Weight,
    /// Learned absolute positions, `[context_length, hidden_size]` (GPT-2).
    pub positions: Option<Weight>,
    /// The looked-up row is multiplied by this (Gemma: sqrt(hidden); Granite: embedding multiplier). 1.0 otherwise.
    pub scale: f32,
}

/// Projection from the last hidden state to logits: `softcap(linear(x) * scale)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `[vocab_size, hidden_size]`; names the embedding's tensor where the two are tied.
    pub linear: Linear,
    /// Logits are multiplied by this (Granite: 1 / logits_scaling). 1.0 otherwise.
    pub scale: f32,
    /// `cap * tanh(x / cap)` on the logits (Gemma 2).
    pub softcap: Option<f32>,
}

/// One residual block: `x += s * post(mixer(pre(x)))`, then `x += s * post(ffn(pre(x)))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Norm before the mixer.
    pub pre_mixer: Option<Norm>,
    /// Attention or what stands in its place.
    pub mixer: Mixer,
    /// Norm on the mixer's output, before it is added (Gemma 2 and 3, OLMo 2).
    pub post_mixer: Option<Norm>,
    /// Norm before the feed-forward part.
    pub pre_ffn: Option<Norm>,
    /// The feed-forward part.
    pub ffn: Ffn,
    /// Norm on its output, before it is added.
    pub post_ffn: Option<Norm>,
    /// Both branches are multiplied by this before they are added (Granite). 1.0 otherwise.
    pub residual_scale: f32,
}

/// What mixes information between positions.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mixer {
    /// Softmax attention with a KV cache.
    Attention(Attention),
}

impl Mixer {
    /// Floats kept per token: `(width of a key row, width of a value row)`.
    pub fn kv_width(&self) -> (usize, usize) {
        match self {
            Mixer::Attention(a) => (a.kv_heads * a.head_dim, a.kv_heads * a.head_dim),
        }
    }

    /// Floats kept per sequence whatever its length (recurrent state).
    pub fn state_len(&self) -> usize {
        match self {
            Mixer::Attention(_) => 0,
        }
    }
}

/// Multi-head, grouped-query or multi-query attention.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// `[heads * head_dim, hidden]`.
    pub q: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub k: Linear,
    /// `[kv_heads * head_dim, hidden]`.
    pub v: Linear,
    /// `[hidden, heads * head_dim]`.
    pub o: Linear,
    /// Norm on each query head before the rotation (weight `[head_dim]`; Qwen3, Gemma 3).
    pub q_norm: Option<Norm>,
    /// Norm on each key head before the rotation.
    pub k_norm: Option<Norm>,
    /// Index into [`ModelSpec::ropes`]; `None` for layers without positions (SmolLM3) or learned ones (GPT-2).
    pub rope: Option<usize>,
    /// Sliding window: position `p` sees keys in `(p - window, p]`. `None` sees all.
    pub window: Option<usize>,
    /// Scores are multiplied by this (usually `1 / sqrt(head_dim)`).
    pub scale: f32,
    /// `cap * tanh(score / cap)` before the mask (Gemma 2).
    pub softcap: Option<f32>,
    /// One learned logit per query head, `[heads]`, that takes part in the softmax and has no value (gpt-oss).
    pub sinks: Option<Weight>,
}

/// The feed-forward part of a layer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(
    clippy::large_enum_variant,
    reason = "a model has a hundred of them at most, and both kinds are large"
)]
pub enum Ffn {
    /// One MLP for every token.
    Dense(Mlp),
    /// A router that picks experts per token.
    Moe(Moe),
}

/// `down(act(gate(x), up(x)))`, or `down(act(up(x)))` without a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// `[ff, hidden]`.
    pub gate: Option<Linear>,
    /// `[ff, hidden]`.
    pub up: Linear,
    /// `[hidden, ff]`.
    pub down: Linear,
    /// The non-linearity.
    pub activation: Activation,
}

/// Mixture of experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Moe {
    /// `[experts, hidden]`.
    pub router: Linear,
    /// Every expert's own MLP; rows of one stacked tensor, or tensors of their own.
    pub experts: Vec<Mlp>,
    /// Experts used per token.
    pub top_k: usize,
    /// How router logits become weights.
    pub scoring: Scoring,
    /// The weighted sum is multiplied by this. 1.0 otherwise.
    pub scale: f32,
    /// An expert that every token uses (DeepSeek, Qwen2-MoE).
    pub shared: Option<Mlp>,
}

/// How router logits become the weights of the chosen experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scoring {
    /// Softmax over all experts, then take the top k as they are.
    Softmax,
    /// Softmax over all experts, take the top k, divide by their sum (`norm_topk_prob`). Equals a softmax over the
    /// top k logits (gpt-oss, Mixtral).
    SoftmaxNormalised,
}

/// Non-linearity of an MLP.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)`, times `up` where gated.
    Silu,
    /// GELU, tanh approximation (`gelu_new`, `gelu_pytorch_tanh`), times `up` where gated.
    GeluTanh,
    /// GELU by erf, times `up` where gated.
    Gelu,
    /// gpt-oss: `g = min(gate, limit); u = clamp(up, -limit, limit); (u + 1) * g * sigmoid(alpha * g)`.
    ClampedSwiglu {
        /// Slope of the sigmoid (1.702).
        alpha: f32,
        /// Clamp (7.0).
        limit: f32,
    },
}

/// Layer norm or RMS norm over the last dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Which norm.
    pub kind: NormKind,
    /// Multiplies the normalised row. Stored weights that mean `1 + w` (Gemma in safetensors) set `offset` to 1.
    pub weight: Weight,
    /// Added to every stored weight: 1.0 for Gemma's safetensors, 0.0 otherwise.
    pub offset: f32,
    /// Added after (layer norm only).
    pub bias: Option<Weight>,
    /// Added to the variance.
    pub eps: f32,
}

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x²) + eps)`.
    Rms,
    /// `(x - mean) / sqrt(var + eps)`.
    Layer,
}

/// A rotary table. Every scaling rule (linear, Llama 3, YaRN, long-rope) is already folded into `inv_freq` and
/// `factor`, so a backend only computes `angle = position * inv_freq[i]`, and `cos`, `sin` times `factor`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Inverse frequencies, `rotary_dim / 2` of them, in f32. Only the first `rotary_dim` elements of a head rotate.
    pub inv_freq: Vec<f32>,
    /// Multiplies both cos and sin (YaRN's and long-rope's attention factor). 1.0 otherwise.
    pub factor: f32,
    /// Which elements pair up.
    pub layout: RopeLayout,
}

/// Which elements of a head form a rotated pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeLayout {
    /// `(x[i], x[i + dim/2])`: Hugging Face checkpoints, and GGUF of most families ("NeoX").
    Half,
    /// `(x[2i], x[2i + 1])`: GGUF of the Llama family, whose converter permutes the rows of q and k.
    Interleaved,
}

/// `y = x · weightᵀ + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// `[rows, cols]`.
    pub weight: Weight,
    /// `[rows]`.
    pub bias: Option<Weight>,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

/// A tensor of the checkpoint, or some rows of it. [`crate::Checkpoint::load`] resolves it.
///
/// A vector (one dimension, or the row that `index` picks out of two) counts as a column here: `rows` selects among its
/// elements, so that a bias is split as its matrix is. It loads as a tensor of one row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Weight {
    /// The tensor's name in the checkpoint. MLX-quantised tensors go by the name of their `.weight`; gpt-oss' MXFP4
    /// pairs by the name without `_blocks`.
    pub name: String,
    /// Which of its rows, after all leading dimensions are flattened into rows (fused qkv, one expert of a stack).
    pub rows: RowSelect,
    /// The tensor is stored `[cols, rows]` and is transposed on load (GPT-2's Conv1D; unquantised gpt-oss experts,
    /// whose `rows` then select within one matrix and `index` names the matrix).
    pub transpose: bool,
    /// Index into the leading dimension of a stack of matrices, where rows alone cannot say it (transposed stacks).
    pub index: Option<usize>,
}

/// Which rows of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowSelect {
    /// All of them.
    All,
    /// `start .. start + count`: a view, nothing is copied.
    Span {
        /// First row.
        start: usize,
        /// Number of rows.
        count: usize,
    },
    /// Rows `start, start + step, …`: copied on load (gpt-oss interleaves gate and up).
    Stride {
        /// First row.
        start: usize,
        /// Distance between rows.
        step: usize,
        /// Number of rows.
        count: usize,
    },
}

impl Weight {
    /// The whole tensor called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), rows: RowSelect::All, transpose: false, index: None }
    }

    /// Rows `range` of it.
    pub fn span(name: impl Into<String>, range: Range<usize>) -> Self {
        let rows = RowSelect::Span { start: range.start, count: range.len() };
        Self { rows, ..Self::new(name) }
    }
}
