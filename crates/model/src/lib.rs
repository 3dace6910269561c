//! What a checkpoint is: readers for GGUF and safetensors, and one `ModelSpec` for every architecture.
//!
//! The way of a model through this crate: [`Checkpoint::open`] maps its files and validates every length, offset, count
//! and name in them; [`Checkpoint::spec`] has [`arch`] turn its configuration into a [`ModelSpec`], which is validated
//! against the tensors; a backend walks the spec and gets each weight from [`Checkpoint::load`], in place in the mapped
//! file wherever the bytes are already what it wants, converted or quantised (see [`quant`]) where not.
//!
//! Invariants: whatever a file holds, opening it takes less than a second and 64 MB and ends in a value or a
//! [`ModelError`], never in a panic; what a backend is given was checked to be there.

pub mod arch;
mod checkpoint;
mod error;
pub mod gguf;
mod json;
mod map;
mod panels;
pub mod quant;
mod safetensors;
mod selection;
mod source;
mod spec;
mod stored;
mod tensor;
mod validate;

pub use arch::SpecOptions;
pub use checkpoint::{Checkpoint, Footprint, Format, PackedMatrix, Packing, StoredInfo};
pub use error::ModelError;
pub use quant::Quantize;
pub use source::TensorIndex;
pub use spec::*;
pub use tensor::{DType, Tensor};
