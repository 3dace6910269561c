//! `Checkpoint`: a model as it lies on disk, in any of the formats, opened and validated.
//!
//! Holds the mapped files and one table of tensors by name, in which quantised forms that take several stored tensors
//! (MLX, MXFP4) are one entry with the shape that the model means. Opening costs no more than reading headers.
//!
//! Invariants: every entry's bytes lie within its mapped file and fit its shape; names are unique over all files;
//! nothing a file claims is allocated before the file was seen to hold it.

mod entry;
mod info;
mod load;
mod matrix;
mod open;
mod packed;
mod size;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::arch::{self, SpecOptions};
use crate::gguf::Metadata;
use crate::map::MappedFile;
use crate::{ModelError, ModelSpec, TensorIndex};
use entry::Entry;

pub use info::StoredInfo;
pub use matrix::{PackedMatrix, Packing};
pub use size::Footprint;

/// How a checkpoint is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// One GGUF file, or its split parts.
    Gguf,
    /// A Hugging Face folder: config.json and safetensors.
    Safetensors,
    /// The same with MLX's quantised matrices.
    MlxSafetensors,
}

/// A model on disk, opened: what it is and where its weights lie.
#[derive(Debug)]
pub struct Checkpoint {
    origin: PathBuf,
    folder: PathBuf,
    files: Vec<MappedFile>,
    tensors: BTreeMap<Box<str>, Entry>,
    kind: Kind,
}

/// What a format has that others lack.
#[derive(Debug)]
enum Kind {
    Gguf(Metadata),
    Safetensors(Value),
}

impl Checkpoint {
    /// Opens the model at `path`: a GGUF file (any part of a split one), a folder with config.json and safetensors (or
    /// with one GGUF model), or a safetensors file with config.json beside it.
    ///
    /// # Errors
    /// [`ModelError::InvalidFile`] for a damaged, incomplete or hostile file, with what is wrong and where;
    /// [`ModelError::Unsupported`] for a format that is not read; [`ModelError::Io`] when the system cannot open it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        open::open(path.as_ref())
    }

    /// Opens a GGUF model that is part of the program, without a copy. `name` stands for the path in errors.
    ///
    /// # Errors
    /// [`ModelError::InvalidFile`] for damaged bytes, and for one part of several.
    pub fn open_static(name: &str, bytes: &'static [u8]) -> Result<Self, ModelError> {
        open::open_static(name, bytes)
    }

    /// The spec of the model, validated against the tensors: what a backend is built from.
    ///
    /// # Errors
    /// [`ModelError::Unsupported`] for an architecture or a quantisation that Perch does not run, by name;
    /// [`ModelError::InvalidFile`] when the configuration and the tensors contradict each other.
    pub fn spec(&self, options: &SpecOptions) -> Result<ModelSpec, ModelError> {
        let spec = match &self.kind {
            Kind::Gguf(metadata) => arch::from_gguf(metadata, self, options),
            Kind::Safetensors(config) => {
                self.check_method(config)?;
                arch::from_hf(config, self, options)
            }
        }?;
        spec.validate(self)?;
        Ok(spec)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(|name| &**name)
    }

    /// Asks the system to read the weights into memory ahead of their first use. Returns at once; what it cannot do it
    /// leaves to the page faults.
    pub fn prefetch(&self) {
        for file in &self.files {
            file.prefetch();
        }
    }

    /// Refuses the quantisation methods whose packed tensors are not read here, by the name that config.json gives.
    fn check_method(&self, config: &Value) -> Result<(), ModelError> {
        let method = config.pointer("/quantization_config/quant_method").and_then(Value::as_str);
        match method {
            None | Some("mxfp4") => Ok(()),
            Some(other) => Err(ModelError::Unsupported(format!(
                "{}: weights quantised with {} are not supported; use the unquantised model with quantise on load, a \
                 GGUF file, or an MLX version of it",
                self.origin.display(),
                crate::stored::shown(other)
            ))),
        }
    }
}

impl TensorIndex for Checkpoint {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.small_values(name)
    }

    fn obstacle(&self, name: &str) -> Option<String> {
        self.tensors.get(name)?.obstacle()
    }

    fn origin(&self) -> &Path {
        &self.origin
    }
}
