//! Phi-3, Phi-3.5 and Phi-4: Llama with q, k, v and gate, up in one matrix each, long-rope, and (Phi-4-mini) a part of
//! each head that does not rotate.

use super::context::Context;
use super::llama::{self, Windows};
use crate::{ModelError, ModelSpec, RopeLayout};

/// Phi-3.
pub(super) fn spec(cx: &Context<'_>) -> Result<ModelSpec, ModelError> {
    llama::build(cx, RopeLayout::Half, Windows::ByConfig)
}
