//! What a checkpoint is: readers for GGUF and safetensors, and one `ModelSpec` for every architecture.

mod spec;
mod tensor;

pub use spec::*;
pub use tensor::{DType, Tensor};
