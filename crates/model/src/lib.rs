//! What a checkpoint is: readers for GGUF and safetensors, and one `ModelSpec` for every architecture.

mod error;
mod source;
mod spec;
mod tensor;

pub use error::ModelError;
pub use source::TensorIndex;
pub use spec::*;
pub use tensor::{DType, Tensor};
