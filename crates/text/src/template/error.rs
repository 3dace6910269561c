//! `TemplateError`: why a conversation could not be rendered.

use thiserror::Error;

/// Why a conversation could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The model's template cannot be parsed.
    #[error("the model's chat template cannot be parsed: {0}")]
    Syntax(String),
    /// The template refused the conversation with `raise_exception`; its own words.
    #[error("the model's chat template refuses this conversation: {0}")]
    Raised(String),
    /// The template failed on this conversation.
    #[error("the model's chat template failed on this conversation: {0}")]
    Failed(String),
    /// The template ran past a limit.
    #[error("the model's chat template ran past its limit: {0}")]
    Limit(String),
    /// The model has no chat template and none is known for its vocabulary.
    #[error("this model has no chat template; use /v1/completions with a prompt of your own")]
    Missing,
}

impl TemplateError {
    /// The code of the error envelope.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Limit(_) => "template_limit",
            _ => "template_error",
        }
    }
}
