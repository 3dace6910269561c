//! Granite 3 (and the attention-only Granite 4): Llama with a multiplier on the embedding, the scores, both branches and
//! the logits; GraniteMoE with experts instead of the MLP.

use super::block::{Decoder, Ends};
use super::context::{Context, name};
use super::rope::{Wanted, rotary};
use super::{activation, llama, moe};
use crate::{Attention, Ffn, Layer, ModelError, ModelSpec};

/// Granite, dense or with experts.
pub(super) fn spec(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = cx.rms()?;
    let act = activation::gated(cx)?;
    let rotary = rotary(cx, Wanted::new(dims.head_dim, dims.context, llama::layout(cx)))?;
    let context = cx.context_in_use(rotary.positions)?;
    let experts = moe::count(cx, dims.layers)?;
    let multiplier = |hf, gguf| Ok(cx.positive(name(hf, gguf))?.map(|value| value as f32));
    let scale = multiplier("attention_multiplier", "attention.scale")?;
    let residual_scale = multiplier("residual_multiplier", "residual_scale")?.unwrap_or(1.0);
    let embedding_scale = multiplier("embedding_multiplier", "embedding_scale")?.unwrap_or(1.0);
    let logits_scaling = multiplier("logits_scaling", "logit_scale")?.unwrap_or(1.0);
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, _| {
        let attention = block.attention(Some(0))?;
        let attention = Attention { scale: scale.unwrap_or(attention.scale), ..attention };
        let ffn = match experts {
            Some(experts) => Ffn::Moe(moe::gated(block, experts, act)?),
            None => Ffn::Dense(block.mlp(act)?),
        };
        Ok(Layer { residual_scale, ..block.pre_norm_layer(attention, ffn, style)? })
    })?;
    let ends = Ends::new(vec![rotary.rope], context, style);
    decoder.finish(layers, Ends { embedding_scale, head_scale: 1.0 / logits_scaling, ..ends })
}
