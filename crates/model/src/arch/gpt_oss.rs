//! gpt-oss: experts with biases and a clamped SwiGLU, attention sinks, windows on every other layer, YaRN whose ramp is not
//! rounded.
//!
//! Gate and up alternate, row by row, in Hugging Face's `gate_up_proj`. As MXFP4 it is a stack of `[2 * ff, hidden]`; as
//! floats a stack of the transposed. GGUF and MLX have three stacks.

use super::block::{ATTN_NORM, Block, Decoder, Ends, FFN_NORM};
use super::context::{Context, Name, name};
use super::moe::{self, Experts, member};
use super::rope::{Wanted, rotary};
use super::windows;
use crate::{
    Activation, Attention, Ffn, Linear, Mlp, ModelError, ModelSpec, Moe, RopeLayout, RowSelect, Scoring,
    Weight,
};

const ROUTER: Name = name("mlp.router", "ffn_gate_inp");
const GATE_UP: Name = name("mlp.experts.gate_up_proj", "");
const STACK_GATE: Name = name("mlp.experts.gate_proj", "ffn_gate_exps");
const STACK_UP: Name = name("mlp.experts.up_proj", "ffn_up_exps");
/// Also the name of the down projection of Hugging Face's own form, without `.weight`.
const STACK_DOWN: Name = name("mlp.experts.down_proj", "ffn_down_exps");

/// gpt-oss.
pub(super) fn spec(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = cx.rms()?;
    let wanted = Wanted::new(dims.head_dim, dims.context, RopeLayout::Half);
    let theta = if cx.is_gguf() { wanted.theta } else { 150_000.0 };
    let rotary = rotary(cx, Wanted { theta, yarn_truncates: false, ..wanted })?;
    let context = cx.context_in_use(rotary.positions)?;
    let windows = windows::by_config(cx, dims.layers, |i| i % 2 == 0)?;
    let experts = moe::count(cx, dims.layers)?.ok_or_else(|| cx.missing(moe::COUNT))?;
    let limit = cx.positive(name("swiglu_limit", ""))?.unwrap_or(7.0) as f32;
    let activation = Activation::ClampedSwiglu { alpha: 1.702, limit };
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, i| {
        let sinks = block.vector(name("self_attn.sinks", "attn_sinks.weight"), block.dims.heads)?;
        let attention = Attention { window: windows[i], sinks: Some(sinks), ..block.attention(Some(0))? };
        let moe = Moe {
            router: block.linear(ROUTER, experts.count, block.dims.hidden)?,
            experts: (0..experts.count)
                .map(|e| expert(block, experts, activation, e))
                .collect::<Result<_, _>>()?,
            top_k: experts.top_k,
            scoring: Scoring::SoftmaxNormalised,
            scale: 1.0,
            shared: None,
        };
        let norms = [ATTN_NORM, name(FFN_NORM.hf, "post_attention_norm")];
        block.pre_norm_layer_of(norms, attention, Ffn::Moe(moe), style)
    })?;
    decoder.finish(layers, Ends::new(vec![rotary.rope], context, style))
}

/// Expert number `e`, from whichever form the checkpoint has.
fn expert(block: &Block<'_>, experts: Experts, activation: Activation, e: usize) -> Result<Mlp, ModelError> {
    let (hidden, Experts { count, ff, .. }) = (block.dims.hidden, experts);
    if block.has(STACK_GATE) || block.cx.is_gguf() {
        let member = |stack, rows, cols| member(block, &block.path(stack), [count, rows, cols], e);
        return Ok(Mlp {
            gate: Some(member(STACK_GATE, ff, hidden)?),
            up: member(STACK_UP, ff, hidden)?,
            down: member(STACK_DOWN, hidden, ff)?,
            activation,
        });
    }
    let (gate_up, down) = (block.path(GATE_UP), block.path(STACK_DOWN));
    // A transposed matrix shows by its shape, unless it is square: then by not being MXFP4.
    let transpose = match block.cx.tensors().shape(&gate_up) {
        Some(&[_, rows, _]) if 2 * ff != hidden => rows == hidden,
        _ => block.cx.object("quantization_config")?.is_none(),
    };
    let part = |path: &str, [total, cols]: [usize; 2], select: RowSelect, rows: usize| {
        let shape = if transpose { [count, cols, total] } else { [count, total, cols] };
        let weight = block.cx.weight(path.to_owned(), &shape)?;
        let bias = block.cx.weight(format!("{path}_bias"), &[count, total])?;
        Ok::<_, ModelError>(Linear {
            weight: Weight { rows: select, transpose, index: Some(e), ..weight },
            bias: Some(Weight { rows: select, index: Some(e), ..bias }),
            rows,
            cols,
        })
    };
    let alternate = |start| RowSelect::Stride { start, step: 2, count: ff };
    Ok(Mlp {
        gate: Some(part(&gate_up, [2 * ff, hidden], alternate(0), ff)?),
        up: part(&gate_up, [2 * ff, hidden], alternate(1), ff)?,
        down: part(&down, [hidden, ff], RowSelect::All, hidden)?,
        activation,
    })
}
