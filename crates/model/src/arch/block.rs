//! `Block`: one layer of a checkpoint, and how a spec is put together from layers.
//!
//! The parts that most families share: rotary attention out of separate or fused projections, a gated MLP, pre-norms. A
//! family takes a part and overrides what differs with struct update syntax.

use super::context::{Context, Format, Name, name};
use super::dims::Dims;
use super::tensors::NormStyle;
use crate::{
    Activation, Attention, Embedding, Ffn, Head, Layer, Linear, Mixer, Mlp, ModelError, ModelSpec, Norm,
    Rope, Weight,
};

pub(super) const ATTN_NORM: Name = name("input_layernorm", "attn_norm");
pub(super) const FFN_NORM: Name = name("post_attention_layernorm", "ffn_norm");
pub(super) const Q_NORM: Name = name("self_attn.q_norm", "attn_q_norm");
pub(super) const K_NORM: Name = name("self_attn.k_norm", "attn_k_norm");
const Q: Name = name("self_attn.q_proj", "attn_q");
const K: Name = name("self_attn.k_proj", "attn_k");
const V: Name = name("self_attn.v_proj", "attn_v");
const QKV: Name = name("self_attn.qkv_proj", "attn_qkv");
const O: Name = name("self_attn.o_proj", "attn_output");
const GATE: Name = name("mlp.gate_proj", "ffn_gate");
const UP: Name = name("mlp.up_proj", "ffn_up");
const DOWN: Name = name("mlp.down_proj", "ffn_down");
/// Gate and up in one, gate first. GGUF keeps the name of the plain `up`.
const GATE_UP: Name = name("mlp.gate_up_proj", "ffn_up");

/// Where a Hugging Face checkpoint keeps the decoder and the head: plain, without a head, inside a model of several
/// modalities (old and new way).
const ROOTS: &[(&str, &str)] =
    &[("model.", ""), ("", ""), ("language_model.model.", "language_model."), ("model.language_model.", "")];

/// The tensors of a decoder, found.
pub(super) struct Decoder<'a, 'c> {
    pub(super) cx: &'c Context<'a>,
    pub(super) dims: Dims,
    root: &'static str,
    head_root: &'static str,
}

/// The tensors of one layer.
pub(super) struct Block<'d> {
    pub(super) cx: &'d Context<'d>,
    pub(super) dims: &'d Dims,
    prefix: String,
}

/// What a spec has besides its layers; the defaults are those of Llama.
pub(super) struct Ends {
    pub(super) ropes: Vec<Rope>,
    pub(super) context: usize,
    pub(super) norm: NormStyle,
    pub(super) embedding_scale: f32,
    pub(super) head_scale: f32,
    pub(super) softcap: Option<f32>,
}

impl Ends {
    pub(super) fn new(ropes: Vec<Rope>, context: usize, norm: NormStyle) -> Self {
        Self { ropes, context, norm, embedding_scale: 1.0, head_scale: 1.0, softcap: None }
    }
}

impl<'a, 'c> Decoder<'a, 'c> {
    /// Finds the decoder among the checkpoint's tensors.
    pub(super) fn find(cx: &'c Context<'a>, dims: Dims) -> Self {
        let found = match cx.format() {
            Format::Gguf => None,
            Format::Hf => ROOTS.iter().find(|(root, _)| cx.has(&format!("{root}embed_tokens.weight"))),
        };
        let (root, head_root) = *found.unwrap_or(match cx.format() {
            Format::Gguf => &("", ""),
            Format::Hf => &ROOTS[0],
        });
        Self { cx, dims, root, head_root }
    }

    /// Layer number `index`.
    pub(super) fn block(&self, index: usize) -> Block<'_> {
        let prefix = match self.cx.format() {
            Format::Hf => format!("{}layers.{index}.", self.root),
            Format::Gguf => format!("blk.{index}."),
        };
        Block { cx: self.cx, dims: &self.dims, prefix }
    }

    /// Every layer, made by `make` from its block and index.
    pub(super) fn layers(
        &self,
        make: impl Fn(&Block<'_>, usize) -> Result<Layer, ModelError>,
    ) -> Result<Vec<Layer>, ModelError> {
        (0..self.dims.layers).map(|index| make(&self.block(index), index)).collect()
    }

    fn top(&self, root: &str, name: Name) -> String {
        format!("{root}{}", self.cx.spell(name))
    }

    /// Puts the whole together.
    pub(super) fn finish(self, layers: Vec<Layer>, ends: Ends) -> Result<ModelSpec, ModelError> {
        let cx = self.cx;
        let tokens = self.top(self.root, name("embed_tokens.weight", "token_embd.weight"));
        let vocab_size = match cx.tensors().shape(&tokens) {
            Some(&[vocab, _]) => vocab,
            _ => return Err(cx.invalid(format!("the embedding, tensor {tokens:?}, is missing or no matrix"))),
        };
        let tokens = cx.weight(tokens, &[vocab_size, self.dims.hidden])?;
        let head = self.top(self.head_root, name("lm_head", "output"));
        let tied =
            cx.flag(name("tie_word_embeddings", ""))? == Some(true) || !cx.has(&format!("{head}.weight"));
        let linear = match tied {
            true => Linear { weight: tokens.clone(), bias: None, rows: vocab_size, cols: self.dims.hidden },
            false => cx.linear(&head, vocab_size, self.dims.hidden)?,
        };
        let norm = self.top(self.root, name("norm", "output_norm"));
        Ok(ModelSpec {
            architecture: cx.architecture().to_owned(),
            vocab_size,
            hidden_size: self.dims.hidden,
            context_length: ends.context,
            embedding: Embedding { tokens, positions: None, scale: ends.embedding_scale },
            ropes: ends.ropes,
            layers,
            final_norm: cx.norm(&norm, self.dims.hidden, ends.norm)?,
            head: Head { linear, scale: ends.head_scale, softcap: ends.softcap },
        })
    }
}

impl Block<'_> {
    /// The full name of a tensor or group of tensors of this layer.
    pub(super) fn path(&self, name: Name) -> String {
        format!("{}{}", self.prefix, self.cx.spell(name))
    }

    /// Whether the layer has the weight called `name`.
    pub(super) fn has(&self, name: Name) -> bool {
        self.cx.has(&format!("{}.weight", self.path(name)))
    }

    /// A norm over `len` elements.
    pub(super) fn norm(&self, name: Name, len: usize, style: NormStyle) -> Result<Norm, ModelError> {
        self.cx.norm(&self.path(name), len, style)
    }

    /// A linear layer of its own.
    pub(super) fn linear(&self, name: Name, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        self.cx.linear(&self.path(name), rows, cols)
    }

    /// Attention as Llama has it: grouped queries, scaled by `1 / sqrt(head_dim)`, no window. The projections are
    /// separate or fused, with biases or without, as the checkpoint has them.
    pub(super) fn attention(&self, rope: Option<usize>) -> Result<Attention, ModelError> {
        let Dims { hidden, heads, kv_heads, head_dim, .. } = *self.dims;
        let (wide, narrow) = (heads * head_dim, kv_heads * head_dim);
        let (q, k, v) = match self.has(QKV) {
            false => (
                self.linear(Q, wide, hidden)?,
                self.linear(K, narrow, hidden)?,
                self.linear(V, narrow, hidden)?,
            ),
            true => {
                let (path, total) = (self.path(QKV), wide + 2 * narrow);
                let rows = |range| self.cx.linear_rows(&path, total, hidden, range);
                (rows(0..wide)?, rows(wide..wide + narrow)?, rows(wide + narrow..total)?)
            }
        };
        Ok(Attention {
            heads,
            kv_heads,
            head_dim,
            q,
            k,
            v,
            o: self.linear(O, hidden, wide)?,
            q_norm: None,
            k_norm: None,
            rope,
            window: None,
            scale: 1.0 / (head_dim as f32).sqrt(),
            softcap: None,
            sinks: None,
        })
    }

    /// A gated MLP, its gate and up separate or fused.
    pub(super) fn mlp(&self, activation: Activation) -> Result<Mlp, ModelError> {
        let Dims { hidden, ff, .. } = *self.dims;
        if ff == 0 {
            return Err(self.cx.missing(super::dims::FF));
        }
        if !self.has(GATE) && self.has(GATE_UP) {
            return self.fused_mlp([GATE_UP, DOWN], ff, activation);
        }
        let (gate, up) = (self.linear(GATE, ff, hidden)?, self.linear(UP, ff, hidden)?);
        Ok(Mlp { gate: Some(gate), up, down: self.linear(DOWN, hidden, ff)?, activation })
    }

    /// A gated MLP of width `ff` whose first matrix has the rows of the gate above those of up.
    pub(super) fn fused_mlp(
        &self,
        [gate_up, down]: [Name; 2],
        ff: usize,
        activation: Activation,
    ) -> Result<Mlp, ModelError> {
        let hidden = self.dims.hidden;
        let path = self.path(gate_up);
        let rows = |range| self.cx.linear_rows(&path, 2 * ff, hidden, range);
        let (gate, up) = (rows(0..ff)?, rows(ff..2 * ff)?);
        Ok(Mlp { gate: Some(gate), up, down: self.linear(down, hidden, ff)?, activation })
    }

    /// A layer as Llama has it: a norm before each part.
    pub(super) fn pre_norm_layer(
        &self,
        attention: Attention,
        ffn: Ffn,
        style: NormStyle,
    ) -> Result<Layer, ModelError> {
        self.pre_norm_layer_of([ATTN_NORM, FFN_NORM], attention, ffn, style)
    }

    /// The same, its two norms under other names.
    pub(super) fn pre_norm_layer_of(
        &self,
        norms: [Name; 2],
        attention: Attention,
        ffn: Ffn,
        style: NormStyle,
    ) -> Result<Layer, ModelError> {
        let hidden = self.dims.hidden;
        Ok(Layer {
            pre_mixer: Some(self.norm(norms[0], hidden, style)?),
            mixer: Mixer::Attention(attention),
            post_mixer: None,
            pre_ffn: Some(self.norm(norms[1], hidden, style)?),
            ffn,
            post_ffn: None,
            residual_scale: 1.0,
        })
    }

    /// A vector of `len` elements.
    pub(super) fn vector(&self, name: Name, len: usize) -> Result<Weight, ModelError> {
        self.cx.weight(self.path(name), &[len])
    }
}
