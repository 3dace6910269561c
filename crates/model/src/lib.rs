//! What a checkpoint is: readers for GGUF and safetensors, and one `ModelSpec` for every architecture.

mod error;
pub mod gguf;
mod map;
mod panels;
pub mod quant;
mod source;
mod spec;
mod stored;
mod tensor;

pub use error::ModelError;
pub use quant::Quantize;
pub use source::TensorIndex;
pub use spec::*;
pub use tensor::{DType, Tensor};
