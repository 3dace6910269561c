//! `TextError`: why a tokenizer could not be built or used.

use thiserror::Error;

/// Why a tokenizer could not be built or used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The tokenizer's file or metadata is damaged or contradicts itself. Becomes `invalid_model_file`.
    #[error("the tokenizer is not valid: {0}")]
    Invalid(String),
    /// The tokenizer is of a kind that this crate does not run.
    #[error("this tokenizer is not supported: {0}")]
    Unsupported(String),
    /// The text could not be encoded with this vocabulary.
    #[error("the text could not be encoded: {0}")]
    Encode(String),
}

impl TextError {
    pub(crate) fn invalid(reason: impl std::fmt::Display) -> Self {
        Self::Invalid(reason.to_string())
    }
}

/// Runs `work`, turning a panic of the `tokenizers` crate into an error: it indexes and unwraps in places that a
/// hostile vocabulary can reach.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, TextError>) -> Result<T, TextError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(TextError::invalid("its parts contradict each other")))
}
