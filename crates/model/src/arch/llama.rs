//! Llama 2 and 3.x, DeepSeek Coder, SmolLM 2, and the families that are Llama but for a window or experts: Mistral,
//! Ministral, Mistral 3, Mixtral.
//!
//! GGUF calls all of them `llama`, except Mistral 3. Its converter permutes the rows of q and k so that rotated pairs lie
//! side by side.

use super::block::{Decoder, Ends};
use super::context::{Context, MAX_CONTEXT, name};
use super::rope::{Wanted, rotary};
use super::{activation, moe, windows};
use crate::{Attention, Ffn, ModelError, ModelSpec, RopeLayout};

/// How this family's converter leaves q and k: as Hugging Face has them, or permuted.
pub(super) fn layout(cx: &Context<'_>) -> RopeLayout {
    if cx.is_gguf() { RopeLayout::Interleaved } else { RopeLayout::Half }
}

/// Llama, and whatever GGUF calls so. The class has no window, though configs may keep one from an earlier life.
pub(super) fn llama(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let windows = if cx.is_gguf() { Windows::ByConfig } else { Windows::None };
    build(cx, layout(cx), windows)
}

/// Mistral, Mixtral: a window where the config has one.
pub(super) fn mistral(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    build(cx, layout(cx), Windows::ByConfig)
}

/// Whether a family looks at the config's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    None,
    ByConfig,
}

/// A Llama, with experts where the config counts them.
pub(super) fn build(cx: &Context<'_>, layout: RopeLayout, windows: Windows) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = cx.rms()?;
    let act = activation::gated(cx)?;
    let rotary = rotary(cx, Wanted::new(dims.head_dim, dims.context, layout))?;
    let context = cx.context_in_use(rotary.positions.min(untempered(cx)?))?;
    let windows = match windows {
        Windows::None => vec![None; dims.layers],
        Windows::ByConfig => windows::by_config(cx, dims.layers, |_| true)?,
    };
    let experts = moe::count(cx, dims.layers)?;
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, i| {
        let attention = Attention { window: windows[i], ..block.attention(Some(0))? };
        let ffn = match experts {
            Some(experts) => Ffn::Moe(moe::gated(block, experts, act)?),
            None => Ffn::Dense(block.mlp(act)?),
        };
        block.pre_norm_layer(attention, ffn, style)
    })?;
    decoder.finish(layers, Ends::new(vec![rotary.rope], context, style))
}

/// Positions before which Mistral 3 leaves the attention's temperature alone. Beyond the context of its training it scales
/// queries by their position; a spec has no room for that, so the context ends there.
fn untempered(cx: &Context<'_>) -> Result<usize, ModelError> {
    const BETA: &str = "llama_4_scaling_beta";
    let (beta, trained) = match cx.object("rope_parameters")? {
        Some(object) => (
            object.get(BETA).and_then(serde_json::Value::as_f64),
            object.get("original_max_position_embeddings").and_then(serde_json::Value::as_u64),
        ),
        None => (
            cx.number(name("", "attention.temperature_scale"))?,
            cx.count(name("", "rope.scaling.original_context_length"), MAX_CONTEXT)?.map(|n| n as u64),
        ),
    };
    match (beta, trained) {
        (Some(beta), Some(trained)) if beta != 0.0 => Ok(trained.clamp(1, MAX_CONTEXT as u64) as usize),
        _ => Ok(MAX_CONTEXT),
    }
}
