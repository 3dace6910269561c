//! GPT-2 and distilgpt2: layer norms, learned positions, fused q, k, v, one up projection without a gate.
//!
//! Hugging Face keeps the matrices as `Conv1D`, `[inputs, outputs]`, with the prefix `transformer.` or without it; the
//! converters to GGUF and to MLX have transposed them.

use super::activation;
use super::context::{Context, MAX_CONTEXT, MAX_WIDTH, Name, name};
use super::dims::{CONTEXT, Dims, HEADS, HIDDEN, LAYERS, MAX_LAYERS};
use super::tensors::NormStyle;
use crate::{
    Activation, Attention, Embedding, Ffn, Head, Layer, Linear, Mixer, Mlp, ModelError, ModelSpec, NormKind,
    RowSelect, Weight,
};

/// GPT-2.
pub(super) fn spec(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let dims = dims(cx)?;
    let eps = cx.number(name("layer_norm_epsilon", "attention.layer_norm_epsilon"))?.unwrap_or(1e-5) as f32;
    if !(0.0..1.0).contains(&eps) {
        return Err(cx.invalid("the norms' epsilon should lie between 0 and 1"));
    }
    let root = ["transformer.", "model."].into_iter().find(|root| cx.has(&format!("{root}wte.weight")));
    let root = root.unwrap_or("");
    let first = format!("{root}h.0.attn.c_attn.weight");
    let gpt2 = Gpt2 {
        cx,
        root,
        transposed: cx.tensors().shape(&first) == Some(&[dims.hidden, 3 * dims.hidden]),
        style: NormStyle { kind: NormKind::Layer, eps, offset: 0.0 },
        act: activation::named(cx, "activation_function", Activation::GeluTanh)?,
        falling_scale: cx.flag(name("scale_attn_by_inverse_layer_idx", ""))?.unwrap_or(false),
        dims,
    };
    if cx.flag(name("scale_attn_weights", ""))? == Some(false) {
        return Err(cx.unsupported("attention without scaling"));
    }
    gpt2.spec()
}

/// The sizes, under GPT-2's own keys.
fn dims(cx: &Context<'_>) -> Result<Dims, ModelError> {
    let key = |hf, usual: Name| name(hf, usual.gguf);
    let hidden = cx.require_size(key("n_embd", HIDDEN), MAX_WIDTH)?;
    let heads = cx.require_size(key("n_head", HEADS), MAX_WIDTH)?;
    if hidden % heads != 0 {
        return Err(cx.invalid(format!("a width of {hidden} cannot be split into {heads} heads")));
    }
    Ok(Dims {
        hidden,
        layers: cx.require_size(key("n_layer", LAYERS), MAX_LAYERS)?,
        heads,
        kv_heads: heads,
        head_dim: hidden / heads,
        ff: cx.size(name("n_inner", "feed_forward_length"), MAX_WIDTH)?.unwrap_or(4 * hidden),
        context: cx.require_size(key("n_positions", CONTEXT), MAX_CONTEXT)?,
    })
}

struct Gpt2<'a, 'c> {
    cx: &'c Context<'a>,
    dims: Dims,
    root: &'static str,
    /// Whether the matrices are `[inputs, outputs]`.
    transposed: bool,
    style: NormStyle,
    act: Activation,
    /// Scores of layer `i` are also divided by `i + 1`.
    falling_scale: bool,
}

impl Gpt2<'_, '_> {
    fn spec(&self) -> Result<ModelSpec, ModelError> {
        let (cx, Dims { hidden, context, .. }) = (self.cx, self.dims);
        let tokens = self.top(name("wte.weight", "token_embd.weight"));
        let Some(&[vocab_size, _]) = cx.tensors().shape(&tokens) else {
            return Err(cx.invalid(format!("the embedding, tensor {tokens:?}, is missing or no matrix")));
        };
        let tokens = cx.weight(tokens, &[vocab_size, hidden])?;
        let positions =
            cx.weight(self.top(name("wpe.weight", "position_embd.weight")), &[context, hidden])?;
        let context_length = cx.context_in_use(context)?;
        let rows = RowSelect::Span { start: 0, count: context_length };
        let positions = Weight { rows, ..positions };
        // The head is the embedding. GGUF may hold it twice, the second time quantised otherwise.
        let head = match cx.is_gguf() && cx.has("output.weight") {
            true => cx.weight("output.weight".into(), &[vocab_size, hidden])?,
            false => tokens.clone(),
        };
        let layers = (0..self.dims.layers).map(|i| self.layer(i)).collect::<Result<_, _>>()?;
        let linear = Linear { weight: head, bias: None, rows: vocab_size, cols: hidden };
        Ok(ModelSpec {
            architecture: cx.architecture().to_owned(),
            vocab_size,
            hidden_size: hidden,
            context_length,
            embedding: Embedding { tokens, positions: Some(positions), scale: 1.0 },
            ropes: Vec::new(),
            layers,
            final_norm: cx.norm(&self.top(name("ln_f", "output_norm")), hidden, self.style)?,
            head: Head { linear, scale: 1.0, softcap: None },
        })
    }

    fn top(&self, name: Name) -> String {
        format!("{}{}", self.root, self.cx.spell(name))
    }

    fn path(&self, layer: usize, name: Name) -> String {
        match self.cx.is_gguf() {
            true => format!("blk.{layer}.{}", name.gguf),
            false => format!("{}h.{layer}.{}", self.root, name.hf),
        }
    }

    fn layer(&self, i: usize) -> Result<Layer, ModelError> {
        let Dims { hidden, heads, head_dim, ff, .. } = self.dims;
        let norm = |name| self.cx.norm(&self.path(i, name), hidden, self.style).map(Some);
        let qkv = self.conv(i, name("attn.c_attn", "attn_qkv"), 3 * hidden, hidden)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let attention = Attention {
            heads,
            kv_heads: heads,
            head_dim,
            q: rows(&qkv, 0, hidden),
            k: rows(&qkv, hidden, hidden),
            v: rows(&qkv, 2 * hidden, hidden),
            o: self.conv(i, name("attn.c_proj", "attn_output"), hidden, hidden)?,
            q_norm: None,
            k_norm: None,
            rope: None,
            window: None,
            scale: if self.falling_scale { scale / (i + 1) as f32 } else { scale },
            softcap: None,
            sinks: None,
        };
        Ok(Layer {
            pre_mixer: norm(name("ln_1", "attn_norm"))?,
            mixer: Mixer::Attention(attention),
            post_mixer: None,
            pre_ffn: norm(name("ln_2", "ffn_norm"))?,
            ffn: Ffn::Dense(Mlp {
                gate: None,
                up: self.conv(i, name("mlp.c_fc", "ffn_up"), ff, hidden)?,
                down: self.conv(i, name("mlp.c_proj", "ffn_down"), hidden, ff)?,
                activation: self.act,
            }),
            post_ffn: None,
            residual_scale: 1.0,
        })
    }

    /// A linear layer, which may be stored transposed.
    fn conv(&self, layer: usize, name: Name, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        let path = self.path(layer, name);
        if !self.transposed {
            return self.cx.linear(&path, rows, cols);
        }
        let weight = self.cx.weight(format!("{path}.weight"), &[cols, rows])?;
        let bias = self.cx.weight(format!("{path}.bias"), &[rows])?;
        Ok(Linear { weight: Weight { transpose: true, ..weight }, bias: Some(bias), rows, cols })
    }
}

/// `count` rows of a linear layer from `start` on.
fn rows(linear: &Linear, start: usize, count: usize) -> Linear {
    let part = |weight: &Weight| Weight { rows: RowSelect::Span { start, count }, ..weight.clone() };
    Linear {
        weight: part(&linear.weight),
        bias: linear.bias.as_ref().map(part),
        rows: count,
        cols: linear.cols,
    }
}
