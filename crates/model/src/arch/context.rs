//! `Context`: what a family sees of a checkpoint, in whichever format: its numbers, its tensors, its limits.
//!
//! Invariants: a number is returned only if it is within bounds; a missing key and JSON's `null` are the same; a tensor is
//! named only if it is there with the shape asked for.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::SpecOptions;
use crate::gguf::Metadata;
use crate::{Linear, ModelError, Norm, NormKind, RowSelect, TensorIndex, Weight};

/// Layers of a decoder. The deepest published has 128 or so.
pub(super) const MAX_LAYERS: usize = 1024;
/// Any width: of the residual stream, of a head, of a feed-forward layer, of all heads.
pub(super) const MAX_WIDTH: usize = 1 << 20;
/// Positions. Nothing is allocated for them here, but backends do arithmetic with them.
pub(super) const MAX_CONTEXT: usize = 1 << 27;

/// What the two formats call one and the same thing: a key of the config, or a tensor without its prefix and suffix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) hf: &'static str,
    pub(super) gguf: &'static str,
}

/// A [`Name`], Hugging Face's spelling first.
pub(super) const fn name(hf: &'static str, gguf: &'static str) -> Name {
    Name { hf, gguf }
}

/// Which of the two formats a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Hf,
    Gguf,
}

/// Where a family reads its numbers.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The config's object that describes the text model: the config itself, or its `text_config`.
    Hf(&'a Map<String, Value>),
    Gguf(&'a Metadata),
}

/// A checkpoint as a family sees it.
pub(super) struct Context<'a> {
    source: Source<'a>,
    tensors: &'a dyn TensorIndex,
    options: &'a SpecOptions,
    architecture: &'a str,
}

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

/// How a family normalises.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormStyle {
    pub(super) kind: NormKind,
    pub(super) eps: f32,
    /// See [`Norm::offset`].
    pub(super) offset: f32,
}

/// The class name of a config.
pub(super) fn hf_architecture(config: &Value) -> Result<&str, ModelError> {
    match config.get("architectures").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(name), ..]) => Ok(name),
        _ => Err(invalid_config("\"architectures\" should be a list that names the model's class")),
    }
}

fn invalid_config(reason: impl Into<String>) -> ModelError {
    ModelError::InvalidFile { path: PathBuf::from("config.json"), reason: reason.into() }
}

impl<'a> Context<'a> {
    pub(super) fn hf(
        architecture: &'a str,
        config: &'a Value,
        tensors: &'a dyn TensorIndex,
        options: &'a SpecOptions,
    ) -> Result<Self, ModelError> {
        let object = match config.get("text_config") {
            Some(text) => text.as_object(),
            None => config.as_object(),
        };
        let object = object.ok_or_else(|| invalid_config("the model's description should be an object"))?;
        Ok(Self { source: Source::Hf(object), tensors, options, architecture })
    }

    pub(super) fn gguf(
        architecture: &'a str,
        metadata: &'a Metadata,
        tensors: &'a dyn TensorIndex,
        options: &'a SpecOptions,
    ) -> Self {
        Self { source: Source::Gguf(metadata), tensors, options, architecture }
    }

    pub(super) fn format(&self) -> Format {
        match self.source {
            Source::Hf(_) => Format::Hf,
            Source::Gguf(_) => Format::Gguf,
        }
    }

    pub(super) fn is_gguf(&self) -> bool {
        self.format() == Format::Gguf
    }

    pub(super) fn architecture(&self) -> &str {
        self.architecture
    }

    pub(super) fn options(&self) -> &SpecOptions {
        self.options
    }

    pub(super) fn tensors(&self) -> &dyn TensorIndex {
        self.tensors
    }

    /// The spelling of `name` in this format.
    pub(super) fn spell(&self, name: Name) -> &'static str {
        match self.format() {
            Format::Hf => name.hf,
            Format::Gguf => name.gguf,
        }
    }

    /// The error for a config that contradicts itself or the tensors.
    pub(super) fn invalid(&self, reason: impl Into<String>) -> ModelError {
        match self.source {
            Source::Hf(_) => invalid_config(reason),
            Source::Gguf(metadata) => metadata.invalid(reason),
        }
    }

    /// The key as the file spells it, for errors and look-ups.
    fn key(&self, name: Name) -> String {
        match self.format() {
            Format::Hf => name.hf.to_owned(),
            Format::Gguf => format!("{}.{}", self.architecture, name.gguf),
        }
    }

    fn json(&self, key: &str) -> Option<&'a Value> {
        match self.source {
            Source::Hf(object) => object.get(key).filter(|value| !value.is_null()),
            Source::Gguf(_) => None,
        }
    }

    /// A JSON object of a Hugging Face config; `None` in GGUF.
    pub(super) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ModelError> {
        self.json(key)
            .map(|value| {
                value.as_object().ok_or_else(|| self.invalid(format!("{key:?} should be an object")))
            })
            .transpose()
    }

    /// An integer, zero allowed, at most `max`. A GGUF array that repeats one value counts as that value.
    pub(super) fn count(&self, name: Name, max: usize) -> Result<Option<usize>, ModelError> {
        let key = self.key(name);
        let (present, value) = match self.source {
            Source::Hf(_) => match self.json(name.hf) {
                None => return Ok(None),
                Some(value) => (true, value.as_u64()),
            },
            Source::Gguf(metadata) => (
                metadata.has(&key),
                metadata.get_u64(&key).or_else(|| {
                    let values = metadata.get_u64s(&key)?;
                    values.iter().all(|v| *v == values[0]).then(|| values.first().copied()).flatten()
                }),
            ),
        };
        match value.map(usize::try_from) {
            None if !present => Ok(None),
            Some(Ok(value)) if value <= max => Ok(Some(value)),
            _ => Err(self.invalid(format!("{key:?} should be one integer from 0 to {max}"))),
        }
    }

    /// A size: an integer from 1 to `max`.
    pub(super) fn size(&self, name: Name, max: usize) -> Result<Option<usize>, ModelError> {
        match self.count(name, max)? {
            Some(0) => Err(self.invalid(format!("{:?} should not be 0", self.key(name)))),
            other => Ok(other),
        }
    }

    /// A size that must be there.
    pub(super) fn require_size(&self, name: Name, max: usize) -> Result<usize, ModelError> {
        self.size(name, max)?.ok_or_else(|| self.missing(name))
    }

    /// A finite number.
    pub(super) fn number(&self, name: Name) -> Result<Option<f64>, ModelError> {
        let key = self.key(name);
        let (present, value) = match self.source {
            Source::Hf(_) => (self.json(name.hf).is_some(), self.json(name.hf).and_then(Value::as_f64)),
            Source::Gguf(metadata) => (metadata.has(&key), metadata.get_f32(&key).map(f64::from)),
        };
        match value {
            None if !present => Ok(None),
            Some(value) if value.is_finite() => Ok(Some(value)),
            _ => Err(self.invalid(format!("{key:?} should be a finite number"))),
        }
    }

    /// A number above zero.
    pub(super) fn positive(&self, name: Name) -> Result<Option<f64>, ModelError> {
        match self.number(name)? {
            Some(value) if value <= 0.0 || !(value as f32).is_normal() => {
                Err(self.invalid(format!("{:?} should be above 0", self.key(name))))
            }
            other => Ok(other),
        }
    }

    /// A truth value.
    pub(super) fn flag(&self, name: Name) -> Result<Option<bool>, ModelError> {
        let key = self.key(name);
        let (present, value) = match self.source {
            Source::Hf(_) => (self.json(name.hf).is_some(), self.json(name.hf).and_then(Value::as_bool)),
            Source::Gguf(metadata) => (metadata.has(&key), metadata.get_bool(&key)),
        };
        match value {
            None if present => Err(self.invalid(format!("{key:?} should be true or false"))),
            other => Ok(other),
        }
    }

    /// A string.
    pub(super) fn text(&self, name: Name) -> Result<Option<&'a str>, ModelError> {
        let key = self.key(name);
        let (present, value) = match self.source {
            Source::Hf(_) => (self.json(name.hf).is_some(), self.json(name.hf).and_then(Value::as_str)),
            Source::Gguf(metadata) => (metadata.has(&key), metadata.get_str(&key)),
        };
        match value {
            None if present => Err(self.invalid(format!("{key:?} should be a string"))),
            other => Ok(other),
        }
    }

    /// A list of a config, with an item for each of `layers` at least; `None` in GGUF.
    pub(super) fn per_layer(&self, key: &str, layers: usize) -> Result<Option<&'a [Value]>, ModelError> {
        match self.json(key) {
            None => Ok(None),
            Some(Value::Array(items)) if items.len() >= layers => Ok(Some(&items[..layers])),
            Some(_) => {
                Err(self.invalid(format!("{key:?} should be a list of {layers} items, one for each layer")))
            }
        }
    }

    /// The truth values of a GGUF array with one for each layer; `None` where it is missing or of another type.
    pub(super) fn gguf_flags(&self, key: &'static str, layers: usize) -> Option<Vec<bool>> {
        match self.source {
            Source::Hf(_) => None,
            Source::Gguf(metadata) => {
                metadata.get_bools(&self.key(name("", key))).filter(|flags| flags.len() >= layers)
            }
        }
    }

    /// The error for a key that is not there.
    pub(super) fn missing(&self, name: Name) -> ModelError {
        self.invalid(format!("{:?} is missing", self.key(name)))
    }

    /// The error for something that the format allows and no backend runs.
    pub(super) fn unsupported(&self, what: impl std::fmt::Display) -> ModelError {
        ModelError::Unsupported(format!("{}: {what} is not supported", self.architecture))
    }

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
        if dims.heads % dims.kv_heads != 0 {
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

    /// RMS norm with the config's epsilon.
    pub(super) fn rms(&self) -> Result<NormStyle, ModelError> {
        let eps = self.number(RMS_EPS)?.unwrap_or(1e-6) as f32;
        if !(0.0..1.0).contains(&eps) {
            return Err(self.invalid(format!("{:?} should lie between 0 and 1", self.key(RMS_EPS))));
        }
        Ok(NormStyle { kind: NormKind::Rms, eps, offset: 0.0 })
    }

    /// The context that the spec will be good for: what was asked for, at most what the model `offers`.
    pub(super) fn context_in_use(&self, offers: usize) -> Result<usize, ModelError> {
        match self.options.context {
            Some(0) => Err(ModelError::Unsupported("a context of 0 tokens was asked for".into())),
            Some(asked) if asked > offers => Err(ModelError::Unsupported(format!(
                "a context of {asked} tokens was asked for, but this model is good for {offers} tokens"
            ))),
            Some(asked) => Ok(asked),
            None => Ok(offers),
        }
    }

    /// Whether the checkpoint has tensor `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.has(name)
    }

    /// Checks that tensor `name` is there, with `shape`.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        match self.tensors.shape(name) {
            None => Err(self.invalid(format!("tensor {name:?} is missing"))),
            Some(found) if found == shape => Ok(()),
            Some(found) => Err(self
                .invalid(format!("tensor {name:?} has shape {found:?}, but the config makes it {shape:?}"))),
        }
    }

    /// All of tensor `name`, checked to have `shape`.
    pub(super) fn weight(&self, name: String, shape: &[usize]) -> Result<Weight, ModelError> {
        self.expect(&name, shape)?;
        Ok(Weight::new(name))
    }

    /// The norm whose tensors begin with `prefix`, over `len` elements.
    pub(super) fn norm(&self, prefix: &str, len: usize, style: NormStyle) -> Result<Norm, ModelError> {
        let bias = format!("{prefix}.bias");
        Ok(Norm {
            kind: style.kind,
            weight: self.weight(format!("{prefix}.weight"), &[len])?,
            offset: style.offset,
            bias: if self.has(&bias) { Some(self.weight(bias, &[len])?) } else { None },
            eps: style.eps,
        })
    }

    /// The linear layer whose tensors begin with `prefix`, with a bias if there is one.
    pub(super) fn linear(&self, prefix: &str, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        self.linear_rows(prefix, rows, cols, 0..rows)
    }

    /// Rows `range` of a linear layer that stacks several, `total` rows in all.
    pub(super) fn linear_rows(
        &self,
        prefix: &str,
        total: usize,
        cols: usize,
        range: std::ops::Range<usize>,
    ) -> Result<Linear, ModelError> {
        let rows = match range.len() == total {
            true => RowSelect::All,
            false => RowSelect::Span { start: range.start, count: range.len() },
        };
        let bias = format!("{prefix}.bias");
        let bias = if self.has(&bias) { Some(self.weight(bias, &[total])?) } else { None };
        Ok(Linear {
            weight: Weight { rows, ..self.weight(format!("{prefix}.weight"), &[total, cols])? },
            bias: bias.map(|bias| Weight { rows, ..bias }),
            rows: range.len(),
            cols,
        })
    }
}

/// What a family's configs may leave out.
#[derive(Debug, Clone, Default)]
pub(super) struct DimDefaults {
    pub(super) heads: Option<usize>,
    pub(super) kv_heads: Option<usize>,
    pub(super) head_dim: Option<usize>,
    pub(super) context: Option<usize>,
}

pub(super) const HIDDEN: Name = name("hidden_size", "embedding_length");
pub(super) const LAYERS: Name = name("num_hidden_layers", "block_count");
pub(super) const HEADS: Name = name("num_attention_heads", "attention.head_count");
pub(super) const KV_HEADS: Name = name("num_key_value_heads", "attention.head_count_kv");
pub(super) const HEAD_DIM: Name = name("head_dim", "attention.key_length");
pub(super) const FF: Name = name("intermediate_size", "feed_forward_length");
pub(super) const CONTEXT: Name = name("max_position_embeddings", "context_length");
pub(super) const RMS_EPS: Name = name("rms_norm_eps", "attention.layer_norm_rms_epsilon");
