//! SmolLM 3: Llama, with every fourth layer left without positions.

use super::block::{Decoder, Ends};
use super::context::{Context, MAX_CONTEXT, name};
use super::rope::{Wanted, rotary};
use super::{activation, llama, windows};
use crate::{Attention, Ffn, ModelError, ModelSpec};

/// SmolLM 3.
pub(super) fn spec(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = cx.rms()?;
    let act = activation::gated(cx)?;
    let wanted = Wanted::new(dims.head_dim, dims.context, llama::layout(cx));
    let theta = if cx.is_gguf() { wanted.theta } else { 2e6 };
    let rotary = rotary(cx, Wanted { theta, ..wanted })?;
    let context = cx.context_in_use(rotary.positions)?;
    let rotates = rotates(cx, dims.layers)?;
    let windows = match cx.flag(name("use_sliding_window", ""))? {
        Some(true) => windows::by_config(cx, dims.layers, |i| !rotates[i])?,
        _ => vec![None; dims.layers],
    };
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, i| {
        let attention = block.attention(rotates[i].then_some(0))?;
        let attention = Attention { window: windows[i], ..attention };
        block.pre_norm_layer(attention, Ffn::Dense(block.mlp(act)?), style)
    })?;
    decoder.finish(layers, Ends::new(vec![rotary.rope], context, style))
}

/// Which layers rotate. `no_rope_layers`, against its name, holds a 1 for those that do.
fn rotates(cx: &Context<'_>, layers: usize) -> Result<Vec<bool>, ModelError> {
    match cx.per_layer("no_rope_layers", layers)? {
        Some(flags) => flags
            .iter()
            .map(|flag| match flag.as_u64().or(flag.as_bool().map(u64::from)) {
                Some(flag @ 0..=1) => Ok(flag == 1),
                _ => Err(cx.invalid("\"no_rope_layers\" should hold 0 and 1")),
            })
            .collect::<Result<_, _>>(),
        None => {
            let interval = cx.size(name("no_rope_layer_interval", ""), MAX_CONTEXT)?.unwrap_or(4);
            Ok((1..=layers).map(|n| n % interval != 0).collect())
        }
    }
}
