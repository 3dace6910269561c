//! Granite 3 and the attention-only Granite 4: Llama with a multiplier on the embedding, the scores, both branches and the
//! logits; GraniteMoE with experts in place of the MLP, or (shared) beside it.
//!
//! Granite 4 is a hybrid by its class; its small models have no recurrent layer and no expert, only the shared MLP.

use super::block::{Block, Decoder, Ends};
use super::context::{Context, MAX_WIDTH, Name, name};
use super::rope::{Wanted, rotary};
use super::{activation, llama, moe};
use crate::{Activation, Attention, Ffn, Layer, Mlp, ModelError, ModelSpec, Moe};

const SHARED_FF: Name = name("shared_intermediate_size", "expert_shared_feed_forward_length");

/// Granite, dense or with experts.
pub(super) fn spec(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    // llama.cpp's way to say that a Granite has no positions.
    let rotates = cx.flag(name("", "rope.scaling.finetuned"))?.unwrap_or(true);
    build(cx, rotates)
}

/// Granite 4, where all layers are attention.
pub(super) fn hybrid(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let layers = cx.dims()?.layers;
    let kinds = cx.per_layer("layer_types", layers)?.ok_or_else(|| cx.missing(name("layer_types", "")))?;
    if !kinds.iter().all(|kind| matches!(kind.as_str(), Some("attention" | "full_attention"))) {
        return Err(cx.unsupported("a recurrent layer (Mamba)"));
    }
    build(cx, cx.text(name("position_embedding_type", ""))? == Some("rope"))
}

fn build(cx: &Context<'_>, rotates: bool) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = cx.rms()?;
    let act = activation::gated(cx)?;
    let rotary = rotary(cx, Wanted::new(dims.head_dim, dims.context, llama::layout(cx)))?;
    let context = cx.context_in_use(rotary.positions)?;
    let experts = moe::count(cx, dims.layers)?;
    let shared_ff = cx.count(SHARED_FF, MAX_WIDTH)?.filter(|ff| *ff > 0);
    let multiplier = |hf, gguf| Ok(cx.positive(name(hf, gguf))?.map(|value| value as f32));
    let scale = multiplier("attention_multiplier", "attention.scale")?;
    let residual_scale = multiplier("residual_multiplier", "residual_scale")?.unwrap_or(1.0);
    let embedding_scale = multiplier("embedding_multiplier", "embedding_scale")?.unwrap_or(1.0);
    let logits_scaling = multiplier("logits_scaling", "logit_scale")?.unwrap_or(1.0);
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, _| {
        let attention = block.attention(rotates.then_some(0))?;
        let attention = Attention { scale: scale.unwrap_or(attention.scale), ..attention };
        let shared = || shared_ff.map(|ff| shared(block, ff, act)).transpose();
        let ffn = match (experts, shared_ff) {
            (Some(experts), _) => Ffn::Moe(Moe { shared: shared()?, ..moe::gated(block, experts, act)? }),
            (None, Some(ff)) if !cx.is_gguf() => Ffn::Dense(self::shared(block, ff, act)?),
            (None, _) => Ffn::Dense(block.mlp(act)?),
        };
        Ok(Layer { residual_scale, ..block.pre_norm_layer(attention, ffn, style)? })
    })?;
    let ends = Ends::new(vec![rotary.rope], context, style);
    decoder.finish(layers, Ends { embedding_scale, head_scale: 1.0 / logits_scaling, ..ends })
}

/// The MLP that every token goes through.
fn shared(block: &Block<'_>, ff: usize, activation: Activation) -> Result<Mlp, ModelError> {
    let fused = [name("shared_mlp.input_linear", ""), name("shared_mlp.output_linear", "")];
    if !block.cx.is_gguf() {
        return block.fused_mlp(fused, ff, activation);
    }
    let hidden = block.dims.hidden;
    Ok(Mlp {
        gate: Some(block.linear(name("", "ffn_gate_shexp"), ff, hidden)?),
        up: block.linear(name("", "ffn_up_shexp"), ff, hidden)?,
        down: block.linear(name("", "ffn_down_shexp"), hidden, ff)?,
        activation,
    })
}
