//! `ApiError`: the one place where typed errors become HTTP.
//!
//! Every error of a sibling crate is given its code, status and advice here. An `ApiError` answers in OpenAI's envelope
//! and travels in the response's extensions as well, so that a route of another dialect can put it into its own.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use perch_conversations::StoreError;
use perch_engine::EngineError;
use perch_hub::download::DownloadError;
use perch_hub::remote::{ChoiceError, HubError};
use perch_model::ModelError;
use perch_protocol::{ErrorCode, ErrorEnvelope, Problem};
use perch_text::TemplateError;
use perch_usage::UsageError;

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What went wrong, in a word. Gives the HTTP status.
    pub code: ErrorCode,
    /// What went wrong and what to do.
    pub message: String,
    /// The field that is to blame, as a path.
    pub param: Option<String>,
    /// After how many seconds it is worth trying again.
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    /// An error that no field is to blame for.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        // A client that is told to come back should also be told when; callers who know better say so.
        let retry_after_s = matches!(code.status(), 429 | 503).then_some(1);
        Self { code, message: message.into(), param: None, retry_after_s }
    }

    /// Field `param` has a value that cannot be used.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorCode::InvalidValue, message) }
    }

    /// Field `param` is not supported, or not like this.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ErrorCode::UnsupportedParameter, message) }
    }

    /// The same error with the time after which to try again.
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    /// The same error with a field to blame.
    pub fn with_param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The server is going away.
    pub(crate) fn stopping() -> Self {
        Self::new(ErrorCode::ModelRestarting, "Perch is shutting down; try again when it runs").retry_after(5)
    }

    /// OpenAI's envelope.
    pub fn envelope(&self) -> ErrorEnvelope {
        ErrorEnvelope::new(self.code, self.message.clone(), self.param.clone())
    }

    /// As the status shows it.
    pub fn problem(&self) -> Problem {
        Problem { code: self.code.as_str().to_owned(), message: self.message.clone() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.envelope())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == ErrorCode::InvalidApiKey {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::QueueFull { retry_after_s, .. } => {
                Self::new(ErrorCode::QueueFull, message).retry_after(retry_after_s)
            }
            EngineError::ContextLength { .. } => Self::new(
                ErrorCode::ContextLengthExceeded,
                format!("{message}; shorten the conversation, or load the model with a larger `context`"),
            ),
            EngineError::KvBudget { .. } => Self::new(
                ErrorCode::ContextLengthExceeded,
                format!("{message}; shorten the prompt, or raise `kv_budget`"),
            ),
            EngineError::Invalid(_) => Self::new(ErrorCode::InvalidValue, message),
            EngineError::Restarting(_) => Self::new(ErrorCode::ModelRestarting, message).retry_after(2),
            EngineError::Closed => Self::new(ErrorCode::ModelRestarting, format!("{message}; try again")),
            _ => Self::new(ErrorCode::EngineError, message),
        }
    }
}

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> Self {
        let code = match error {
            ModelError::Io { .. } => ErrorCode::EngineError,
            _ => ErrorCode::InvalidModelFile,
        };
        Self::new(code, error.to_string())
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        let code = match error {
            TemplateError::Limit(_) => ErrorCode::TemplateLimit,
            _ => ErrorCode::TemplateError,
        };
        Self::new(code, error.to_string())
    }
}

impl From<perch_hub::NotFound> for ApiError {
    fn from(error: perch_hub::NotFound) -> Self {
        Self::new(ErrorCode::ModelNotFound, error.to_string()).with_param("model")
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        let message = error.to_string();
        match error {
            HubError::Offline => Self::new(ErrorCode::HubOffline, message),
            HubError::Gated { .. } | HubError::BadToken { .. } => {
                Self::new(ErrorCode::HubAccessDenied, message)
            }
            HubError::NotFound { .. } => Self::new(ErrorCode::ModelNotFound, message),
            HubError::RateLimited { retry_after } => {
                Self::new(ErrorCode::HubRateLimited, message).retry_after(retry_after.as_secs().max(1))
            }
            HubError::BadName(_) => Self::new(ErrorCode::InvalidValue, message),
            HubError::Settings(_) => Self::new(ErrorCode::Conflict, message),
            _ => Self::new(ErrorCode::HubUnavailable, message),
        }
    }
}

impl From<DownloadError> for ApiError {
    fn from(error: DownloadError) -> Self {
        let message = error.to_string();
        match error {
            DownloadError::Hub(error) => error.into(),
            DownloadError::Choice(
                ChoiceError::Unknown { .. } | ChoiceError::Nothing { .. } | ChoiceError::NoFile { .. },
            ) => Self::new(ErrorCode::ModelNotFound, message).with_param("model"),
            DownloadError::Choice(_) | DownloadError::SameName { .. } => {
                Self::new(ErrorCode::InvalidValue, message)
            }
            DownloadError::Storage { .. } => Self::new(ErrorCode::InsufficientStorage, message),
            DownloadError::Checksum { .. } | DownloadError::Changed { .. } => {
                Self::new(ErrorCode::ChecksumMismatch, message)
            }
            DownloadError::Unknown(_) => Self::new(ErrorCode::NotFound, message),
            DownloadError::Stopping => Self::stopping(),
            _ => Self::new(ErrorCode::EngineError, message),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::NotFound { .. } => Self::new(ErrorCode::NotFound, message),
            StoreError::Invalid { field, .. } => Self::invalid(field, message),
            StoreError::Conflict(_) => Self::new(ErrorCode::Conflict, message),
            StoreError::Full => Self::new(ErrorCode::InsufficientStorage, message),
            StoreError::Closed => Self::new(ErrorCode::ModelRestarting, message).retry_after(5),
            _ => Self::new(ErrorCode::EngineError, message),
        }
    }
}

impl From<UsageError> for ApiError {
    fn from(error: UsageError) -> Self {
        let code = match error {
            UsageError::Full => ErrorCode::InsufficientStorage,
            UsageError::Closed => return Self::stopping(),
            _ => ErrorCode::EngineError,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_told_to_come_back_is_told_when() {
        for code in ErrorCode::ALL {
            let response = ApiError::new(*code, "m").into_response();
            let told = response.headers().contains_key(RETRY_AFTER);
            assert_eq!(told, matches!(response.status().as_u16(), 429 | 503), "{code}");
        }
        let full = ApiError::from(EngineError::QueueFull { waiting: 3, retry_after_s: 7 }).into_response();
        assert_eq!(full.status(), 429);
        assert_eq!(full.headers()[RETRY_AFTER], "7");
    }

    #[test]
    fn a_prompt_that_is_too_long_says_both_numbers() {
        let error = ApiError::from(EngineError::ContextLength { prompt: 5000, context: 4096 });
        assert_eq!(error.code, ErrorCode::ContextLengthExceeded);
        assert!(error.message.contains("5000") && error.message.contains("4096"), "{error}");
    }
}
