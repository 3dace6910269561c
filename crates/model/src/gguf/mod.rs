//! GGUF, versions 2 and 3: reading one file or a set of split parts, and writing.
//!
//! Holds the reader ([`Metadata`], `GgufFile`) and the [`Writer`]. A file is mapped, and everything in it is validated
//! before it is used: the counts, lengths and offsets of a hostile file lead to [`ModelError::InvalidFile`], which says
//! what is wrong and at which byte, and to no allocation beyond a few megabytes.

mod cursor;
mod header;
mod metadata;
mod splits;
mod tensors;
mod value;
mod writer;

pub use metadata::{Metadata, Strings};
pub use value::{Scalar, ValueType};
pub use writer::{Body, Value, Writer};

pub(crate) use splits::{PartName, Parts, open_all, open_one};

use std::path::Path;

use crate::ModelError;
use crate::map::MappedFile;
use crate::stored::StoredTensor;
use cursor::{Cursor, Damage};

/// One GGUF file: its metadata and where its tensors lie.
#[derive(Debug)]
pub(crate) struct GgufFile {
    file: MappedFile,
    metadata: Metadata,
    tensors: Vec<StoredTensor>,
}

impl GgufFile {
    /// Maps and validates the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        Self::from_map(MappedFile::open(path)?)
    }

    /// Validates what is mapped.
    pub(crate) fn from_map(file: MappedFile) -> Result<Self, ModelError> {
        let read = || -> Result<_, Damage> {
            let mut cursor = Cursor::new(file.bytes(), 0);
            let header = header::read_header(&mut cursor)?;
            let slots = header::read_metadata(&mut cursor, header.keys)?;
            let metadata = Metadata::new(file.clone(), slots);
            let tensors = tensors::read_tensors(&mut cursor, header.tensors, &metadata, file.bytes().len())?;
            Ok((metadata, tensors))
        };
        match read() {
            Ok((metadata, tensors)) => Ok(Self { metadata, tensors, file }),
            Err(damage) => Err(file.invalid(damage.to_string())),
        }
    }

    /// Its metadata.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its file, metadata and tensors.
    pub(crate) fn into_parts(self) -> (MappedFile, Metadata, Vec<StoredTensor>) {
        (self.file, self.metadata, self.tensors)
    }

    /// The mapped file.
    pub(crate) fn file(&self) -> &MappedFile {
        &self.file
    }
}
