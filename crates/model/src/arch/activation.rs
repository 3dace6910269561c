//! Non-linearities by the names that configs give them.

use super::context::{Context, name};
use crate::{Activation, ModelError};

/// The activation of a gated MLP, SiLU unless the config says otherwise. GGUF has no key for it.
pub(super) fn gated(cx: &Context<'_>) -> Result<Activation, ModelError> {
    named(cx, "hidden_act", Activation::Silu)
}

/// The activation under `key` of config.json, or the family's own.
pub(super) fn named(
    cx: &Context<'_>,
    key: &'static str,
    default: Activation,
) -> Result<Activation, ModelError> {
    if cx.is_gguf() {
        return Ok(default);
    }
    match cx.text(name(key, ""))? {
        None => Ok(default),
        Some("silu" | "swish") => Ok(Activation::Silu),
        Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
        Some("gelu") => Ok(Activation::Gelu),
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            Err(cx.unsupported(format!("activation {other:?}")))
        }
    }
}
