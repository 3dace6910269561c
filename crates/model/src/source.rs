//! `TensorIndex`: what an architecture may ask about a checkpoint's tensors while it builds a spec.

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
}
