//! Qwen2 and 2.5 (biases on q, k and v), Qwen3 (norms on q and k instead) and Qwen3-MoE.

use super::block::{Decoder, Ends, K_NORM, Q_NORM};
use super::context::{Context, name};
use super::rope::{Wanted, rotary};
use super::{activation, moe, windows};
use crate::{Attention, Ffn, ModelError, ModelSpec, Moe, RopeLayout, Scoring};

/// Qwen2 and Qwen2.5.
pub(super) fn qwen2(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    build(cx, false)
}

/// Qwen3, dense or with experts.
pub(super) fn qwen3(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    build(cx, true)
}

fn build(cx: &Context<'_>, head_norms: bool) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = cx.rms()?;
    let act = activation::gated(cx)?;
    let rotary = rotary(cx, Wanted::new(dims.head_dim, dims.context, RopeLayout::Half))?;
    let context = cx.context_in_use(rotary.positions)?;
    let windows = windows(cx, dims.layers)?;
    let experts = moe::count(cx, dims.layers)?;
    // GGUF's metadata do not say; every model of the family normalises.
    let normalised = cx.is_gguf() || cx.flag(name("norm_topk_prob", ""))?.unwrap_or(false);
    let scoring = if normalised { Scoring::SoftmaxNormalised } else { Scoring::Softmax };
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, i| {
        let mut attention = Attention { window: windows[i], ..block.attention(Some(0))? };
        if head_norms {
            attention.q_norm = Some(block.norm(Q_NORM, block.dims.head_dim, style)?);
            attention.k_norm = Some(block.norm(K_NORM, block.dims.head_dim, style)?);
        }
        // Which layers are dense (`mlp_only_layers`, `decoder_sparse_step`) shows by their tensors.
        let ffn = match experts.filter(|_| moe::router(block).is_some()) {
            Some(experts) => Ffn::Moe(Moe { scoring, ..moe::gated(block, experts, act)? }),
            None => Ffn::Dense(block.mlp(act)?),
        };
        block.pre_norm_layer(attention, ffn, style)
    })?;
    decoder.finish(layers, Ends::new(vec![rotary.rope], context, style))
}

/// The window counts only where `use_sliding_window` says so, and then from layer `max_window_layers` on.
fn windows(cx: &Context<'_>, layers: usize) -> Result<Vec<Option<usize>>, ModelError> {
    if !cx.flag(name("use_sliding_window", ""))?.unwrap_or(false) {
        return Ok(vec![None; layers]);
    }
    let first = cx.count(name("max_window_layers", ""), usize::MAX)?.unwrap_or(28);
    windows::by_config(cx, layers, |i| i >= first)
}
