//! `Dims`: the sizes that every family has, and the keys they usually go by.
//!
//! Invariants: nothing is zero but `ff`, where a config has none; `heads` is a multiple of `kv_heads`; products of widths
//! do not overflow.

use super::context::{Context, MAX_CONTEXT, MAX_WIDTH, Name, name};
use crate::ModelError;

/// Layers of a decoder. The deepest published has 128 or so.
pub(super) const MAX_LAYERS: usize = 1024;

pub(super) const HIDDEN: Name = name("hidden_size", "embedding_length");
pub(super) const LAYERS: Name = name("num_hidden_layers", "block_count");
pub(super) const HEADS: Name = name("num_attention_heads", "attention.head_count");
pub(super) const KV_HEADS: Name = name("num_key_value_heads", "attention.head_count_kv");
pub(super) const HEAD_DIM: Name = name("head_dim", "attention.key_length");
pub(super) const FF: Name = name("intermediate_size", "feed_forward_length");
pub(super) const CONTEXT: Name = name("max_position_embeddings", "context_length");
pub(super) const RMS_EPS: Name = name("rms_norm_eps", "attention.layer_norm_rms_epsilon");

/// Sizes that every family has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dims {
    pub(super) hidden: usize,
    pub(super) layers: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Width of the feed-forward layers.
    pub(super) ff: usize,
    /// Positions the model was made for.
    pub(super) context: usize,
}

/// What a family's configs may leave out.
#[derive(Debug, Clone, Default)]
pub(super) struct DimDefaults {
    pub(super) heads: Option<usize>,
    pub(super) kv_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) context: Option<usize>,
}

impl Context<'_> {
    /// The sizes, under the keys that most families use.
    pub(super) fn dims(&self) -> Result<Dims, ModelError> {
        self.dims_or(&DimDefaults::default())
    }

    /// The sizes, with a family's own defaults for what its configs may leave out.
    pub(super) fn dims_or(&self, defaults: &DimDefaults) -> Result<Dims, ModelError> {
        let or = |value: Option<usize>, default: Option<usize>, name| {
            value.or(default).ok_or_else(|| self.missing(name))
        };
        let hidden = self.require_size(HIDDEN, MAX_WIDTH)?;
        let heads = or(self.size(HEADS, MAX_WIDTH)?, defaults.heads, HEADS)?;
        let kv_heads = self.size(KV_HEADS, MAX_WIDTH)?.or(defaults.kv_heads).unwrap_or(heads);
        let head_dim = self.size(HEAD_DIM, MAX_WIDTH)?.or(defaults.head_dim).unwrap_or(hidden / heads);
        let values = self.size(name("", "attention.value_length"), MAX_WIDTH)?;
        if values.is_some_and(|values| values != head_dim) {
            return Err(self.unsupported("attention whose keys and values have different widths"));
        }
        let context = or(self.size(CONTEXT, MAX_CONTEXT)?, defaults.context, CONTEXT)?;
        let dims = Dims {
            hidden,
            layers: self.require_size(LAYERS, MAX_LAYERS)?,
            heads,
            kv_heads,
            head_dim,
            ff: self.size(FF, MAX_WIDTH)?.unwrap_or(0),
            context,
        };
        self.check_dims(&dims)?;
        Ok(dims)
    }

    fn check_dims(&self, dims: &Dims) -> Result<(), ModelError> {
        if !dims.heads.is_multiple_of(dims.kv_heads) {
            return Err(self.invalid(format!(
                "{} query heads cannot share {} key and value heads",
                dims.heads, dims.kv_heads
            )));
        }
        if dims.head_dim == 0 || dims.head_dim.checked_mul(dims.heads).is_none_or(|width| width > MAX_WIDTH) {
            return Err(
                self.invalid(format!("{} heads of width {} are not possible", dims.heads, dims.head_dim))
            );
        }
        Ok(())
    }
}
