//! Gemma 2 and 3 (text): norms before and after each part, scaled embeddings, windows on most layers; softcaps in Gemma 2,
//! norms on q and k and a second rotary table in Gemma 3.
//!
//! Safetensors hold norm weights that mean `1 + w`; GGUF's converter has added the one.

use super::block::{ATTN_NORM, Block, Decoder, Ends, K_NORM, Q_NORM};
use super::context::{Context, MAX_CONTEXT, Name, name};
use super::dims::{DimDefaults, Dims};
use super::rope::{Wanted, rotary};
use super::tensors::NormStyle;
use super::{activation, windows};
use crate::{Activation, Attention, Ffn, Layer, Mixer, ModelError, ModelSpec, RopeLayout};

const POST_ATTN_NORM: Name = name("post_attention_layernorm", "post_attention_norm");
const PRE_FFN_NORM: Name = name("pre_feedforward_layernorm", "ffn_norm");
const POST_FFN_NORM: Name = name("post_feedforward_layernorm", "post_ffw_norm");
const ATTN_SOFTCAP: Name = name("attn_logit_softcapping", "attn_logit_softcapping");
const FINAL_SOFTCAP: Name = name("final_logit_softcapping", "final_logit_softcapping");

/// Gemma 2.
pub(super) fn gemma2(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let dims = cx.dims()?;
    let style = norms(cx)?;
    let rotary = rotary(cx, Wanted::new(dims.head_dim, dims.context, RopeLayout::Half))?;
    // llama.cpp takes these where the metadata have none; a config without them has none.
    let absent = |value: f32| cx.is_gguf().then_some(value);
    let softcap = softcap(cx, ATTN_SOFTCAP)?.or(absent(50.0));
    let final_softcap = self::softcap(cx, FINAL_SOFTCAP)?.or(absent(30.0));
    let windows = windows::by_layer(cx, dims.layers, Some(window(cx)?.unwrap_or(4096)), |i| i % 2 == 0)?;
    let scale = attention_scale(cx, &dims, 46)?;
    let act = act(cx)?;
    let context = cx.context_in_use(rotary.positions)?;
    let embedding_scale = (dims.hidden as f32).sqrt();
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, i| {
        let attention = Attention { window: windows[i], scale, softcap, ..block.attention(Some(0))? };
        layer(block, attention, act, style)
    })?;
    let ends = Ends::new(vec![rotary.rope], context, style);
    decoder.finish(layers, Ends { embedding_scale, softcap: final_softcap, ..ends })
}

/// Gemma 3, the text model or the text part of the larger one, whose `text_config` leaves out what is usual.
pub(super) fn gemma3(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    let defaults = match cx.is_gguf() {
        true => DimDefaults::default(),
        false => {
            DimDefaults { heads: Some(8), kv_heads: Some(4), head_dim: Some(256), context: Some(131_072) }
        }
    };
    let dims = cx.dims_or(&defaults)?;
    let style = norms(cx)?;
    let wanted = Wanted { theta: 1e6, ..Wanted::new(dims.head_dim, dims.context, RopeLayout::Half) };
    let full = rotary(cx, wanted)?;
    let local = rotary(cx, Wanted { theta: 1e4, local: true, ..wanted })?;
    let pattern = cx.size(name("sliding_window_pattern", ""), MAX_CONTEXT)?.unwrap_or(6);
    let window = window(cx)?.or((!cx.is_gguf()).then_some(4096));
    let windows = windows::by_layer(cx, dims.layers, window, |i| (i + 1) % pattern != 0)?;
    let scale = attention_scale(cx, &dims, 62)?;
    let softcap = softcap(cx, ATTN_SOFTCAP)?;
    let final_softcap = self::softcap(cx, FINAL_SOFTCAP)?;
    let act = act(cx)?;
    let context = cx.context_in_use(full.positions)?;
    let embedding_scale = (dims.hidden as f32).sqrt();
    let decoder = Decoder::find(cx, dims);
    let layers = decoder.layers(|block, i| {
        let rope = usize::from(windows[i].is_some());
        let attention = Attention {
            window: windows[i],
            scale,
            softcap,
            q_norm: Some(block.norm(Q_NORM, block.dims.head_dim, style)?),
            k_norm: Some(block.norm(K_NORM, block.dims.head_dim, style)?),
            ..block.attention(Some(rope))?
        };
        layer(block, attention, act, style)
    })?;
    let ends = Ends::new(vec![full.rope, local.rope], context, style);
    decoder.finish(layers, Ends { embedding_scale, softcap: final_softcap, ..ends })
}

fn norms(cx: &Context<'_>) -> Result<NormStyle, ModelError> {
    Ok(NormStyle { offset: if cx.is_gguf() { 0.0 } else { 1.0 }, ..cx.rms()? })
}

fn act(cx: &Context<'_>) -> Result<Activation, ModelError> {
    activation::named(cx, "hidden_activation", Activation::GeluTanh)
}

fn window(cx: &Context<'_>) -> Result<Option<usize>, ModelError> {
    let window = cx.count(name("sliding_window", "attention.sliding_window"), MAX_CONTEXT)?;
    Ok(window.filter(|window| *window > 0))
}

fn softcap(cx: &Context<'_>, key: Name) -> Result<Option<f32>, ModelError> {
    Ok(cx.number(key)?.filter(|cap| *cap > 0.0).map(|cap| cap as f32))
}

/// `1 / sqrt(query_pre_attn_scalar)`. GGUF has no key for it; the scalar is the width of a head in all but the 27B
/// models, which have `large` layers.
fn attention_scale(cx: &Context<'_>, dims: &Dims, large: usize) -> Result<f32, ModelError> {
    let scalar = match cx.is_gguf() {
        true if dims.layers == large => (dims.hidden / dims.heads) as f64,
        true => dims.head_dim as f64,
        false => cx.positive(name("query_pre_attn_scalar", ""))?.unwrap_or(256.0),
    };
    Ok((1.0 / scalar.sqrt()) as f32)
}

fn layer(
    block: &Block<'_>,
    attention: Attention,
    act: Activation,
    style: NormStyle,
) -> Result<Layer, ModelError> {
    let norm = |name| block.norm(name, block.dims.hidden, style).map(Some);
    Ok(Layer {
        pre_mixer: norm(ATTN_NORM)?,
        mixer: Mixer::Attention(attention),
        post_mixer: norm(POST_ATTN_NORM)?,
        pre_ffn: norm(PRE_FFN_NORM)?,
        ffn: Ffn::Dense(block.mlp(act)?),
        post_ffn: norm(POST_FFN_NORM)?,
        residual_scale: 1.0,
    })
}
