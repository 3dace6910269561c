//! Which layers see only a sliding window.
//!
//! Hugging Face says it by `layer_types`, or by a rule of the family's own class; GGUF by a window and sometimes a pattern.

use serde_json::Value;

use super::context::{Context, MAX_CONTEXT, name};
use crate::ModelError;

/// The window of each layer. `rule` says which layers have one where the config has a window but no `layer_types`.
pub(super) fn by_config(
    cx: &Context<'_>,
    layers: usize,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    // A window of 0 is how GGUF of Phi-4 says that there is none.
    let window = cx.count(name("sliding_window", "attention.sliding_window"), MAX_CONTEXT)?;
    by_layer(cx, layers, window.filter(|window| *window > 0), rule)
}

/// The same for a window that the family has read.
pub(super) fn by_layer(
    cx: &Context<'_>,
    layers: usize,
    window: Option<usize>,
    rule: impl Fn(usize) -> bool,
) -> Result<Vec<Option<usize>>, ModelError> {
    if let Some(kinds) = cx.per_layer("layer_types", layers)? {
        return kinds.iter().map(|kind| by_kind(cx, kind, window)).collect();
    }
    if let Some(local) = cx.gguf_flags("attention.sliding_window_pattern", layers) {
        return Ok(local.iter().map(|local| window.filter(|_| *local)).collect());
    }
    Ok((0..layers).map(|i| window.filter(|_| rule(i))).collect())
}

fn by_kind(cx: &Context<'_>, kind: &Value, window: Option<usize>) -> Result<Option<usize>, ModelError> {
    match kind.as_str() {
        Some("full_attention") => Ok(None),
        Some("sliding_attention") if window.is_some() => Ok(window),
        Some("sliding_attention") => {
            Err(cx.invalid("\"layer_types\" has sliding layers, but there is no \"sliding_window\""))
        }
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            Err(cx.unsupported(format!("layer type {other:?}")))
        }
        None => Err(cx.invalid("\"layer_types\" should hold strings")),
    }
}
