//! `Context`: what a family sees of a checkpoint, in whichever format: its numbers, its tensors, its limits.
//!
//! Invariants: a number is returned only if it is within bounds; a missing key and JSON's `null` are the same; a tensor is
//! named only if it is there with the shape asked for.

use serde_json::{Map, Value};

use super::SpecOptions;
use crate::gguf::Metadata;
use crate::{ModelError, TensorIndex};

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

/// The class name of a config.
pub(super) fn hf_architecture<'a>(
    config: &'a Value,
    tensors: &dyn TensorIndex,
) -> Result<&'a str, ModelError> {
    match config.get("architectures").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::String(name), ..]) => Ok(name),
        _ => Err(invalid_config(tensors, "\"architectures\" should be a list that names the model's class")),
    }
}

/// The error for a config.json, which lies beside what the checkpoint was opened by, or in it.
fn invalid_config(tensors: &dyn TensorIndex, reason: impl Into<String>) -> ModelError {
    let origin = tensors.origin();
    let folder = match origin.extension().is_some_and(|extension| extension == "safetensors") {
        true => origin.parent().unwrap_or(origin),
        false => origin,
    };
    ModelError::InvalidFile { path: folder.join("config.json"), reason: reason.into() }
}

impl<'a> Context<'a> {
    pub(super) fn hf(
        architecture: &'a str,
        config: &'a Value,
        tensors: &'a dyn TensorIndex,
        options: &'a SpecOptions,
    ) -> Result<Self, ModelError> {
        let object = match config.get("text_config").filter(|text| !text.is_null()) {
            Some(text) => text.as_object(),
            None => config.as_object(),
        };
        let object =
            object.ok_or_else(|| invalid_config(tensors, "the model's description should be an object"))?;
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
            Source::Hf(_) => invalid_config(self.tensors, reason),
            Source::Gguf(metadata) => metadata.invalid(reason),
        }
    }

    /// The key as the file spells it, for errors and look-ups.
    pub(super) fn key(&self, name: Name) -> String {
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
}
