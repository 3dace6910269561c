//! `TensorIndex`: what an architecture may ask about a checkpoint's tensors while it builds a spec.

use std::path::Path;

use crate::ModelError;

/// The tensors of a checkpoint, by name.
pub trait TensorIndex {
    /// Shape of tensor `name`, outermost dimension first (so a GGUF `ne` is reversed); `None` if there is none.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// All values of a small tensor (rotary factors) in f32. At most 65,536 elements.
    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError>;

    /// Whether there is a tensor of that name.
    fn has(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// Why tensor `name` could not be run although it is there (a quantisation that no backend has); `None` if it could.
    fn obstacle(&self, _name: &str) -> Option<String> {
        None
    }

    /// The file or folder that errors should name.
    fn origin(&self) -> &Path {
        Path::new("checkpoint")
    }

    /// The error for a checkpoint that contradicts itself.
    fn invalid(&self, reason: String) -> ModelError {
        ModelError::InvalidFile { path: self.origin().to_owned(), reason }
    }
}
