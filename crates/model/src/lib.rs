//! What a checkpoint is: readers for GGUF and safetensors, and one `ModelSpec` for every architecture.

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
pub use checkpoint::{Checkpoint, Format};
pub use error::ModelError;
pub use quant::Quantize;
pub use source::TensorIndex;
pub use spec::*;
pub use tensor::{DType, Tensor};
