//! The error codes that Perch answers with, their HTTP status and OpenAI error type, and OpenAI's envelope.
//!
//! One table for every dialect: a dialect with an envelope of its own still takes status and code from here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, in a word that programs can match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The body is not JSON.
    InvalidJson,
    /// A field has the wrong type or a value out of range; `param` names it.
    InvalidValue,
    /// A field is not supported, or not with this model; `param` names it.
    UnsupportedParameter,
    /// Prompt and answer do not fit the model's context.
    ContextLengthExceeded,
    /// A JSON schema could not be used.
    InvalidJsonSchema,
    /// Media by URL is not allowed from there.
    UrlNotAllowed,
    /// An image could not be read.
    InvalidImage,
    /// The API key is missing or wrong.
    InvalidApiKey,
    /// The `Host` header names no host of this server (DNS rebinding).
    HostNotAllowed,
    /// The `Origin` header names a site that may not call this server.
    OriginNotAllowed,
    /// The API key is good, but not for this.
    InsufficientScope,
    /// The hub does not let this user have it: terms to accept, a token that is missing or not good for it.
    HubAccessDenied,
    /// There is no such model.
    ModelNotFound,
    /// There is no such route or thing.
    NotFound,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The client took too long to send its request.
    RequestTimeout,
    /// The state of the server does not allow it now.
    Conflict,
    /// Perch is told not to use the network.
    HubOffline,
    /// The body is too large.
    PayloadTooLarge,
    /// The body is not `application/json`.
    UnsupportedMediaType,
    /// A model's file is damaged or of a kind that Perch does not run.
    InvalidModelFile,
    /// The model's chat template refused the conversation.
    TemplateError,
    /// The model's chat template ran too long or wrote too much.
    TemplateLimit,
    /// Too many requests are waiting.
    QueueFull,
    /// The hub answers no more requests of this machine for a while.
    HubRateLimited,
    /// The engine failed on this request, or Perch has a fault.
    EngineError,
    /// The hub cannot be reached, fails, or sends what cannot be used.
    HubUnavailable,
    /// A downloaded file is not the one that the hub described.
    ChecksumMismatch,
    /// The server that runs the model cannot be reached, refuses Perch, or breaks off.
    UpstreamUnavailable,
    /// The model is still loading, or waits for others to end.
    ModelLoading,
    /// The model's engine failed and is being restarted, or the server is shutting down.
    ModelRestarting,
    /// The app's server is stopped.
    ServerStopped,
    /// The model does not fit into memory now.
    InsufficientMemory,
    /// There is no space left on the disk.
    InsufficientStorage,
}

impl ErrorCode {
    /// Every code, in the order of the table in `docs/api.md`.
    pub const ALL: &[ErrorCode] = &[
        Self::InvalidJson,
        Self::InvalidValue,
        Self::UnsupportedParameter,
        Self::ContextLengthExceeded,
        Self::InvalidJsonSchema,
        Self::UrlNotAllowed,
        Self::InvalidImage,
        Self::InvalidApiKey,
        Self::HostNotAllowed,
        Self::OriginNotAllowed,
        Self::InsufficientScope,
        Self::HubAccessDenied,
        Self::ModelNotFound,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::HubOffline,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidModelFile,
        Self::TemplateError,
        Self::TemplateLimit,
        Self::QueueFull,
        Self::HubRateLimited,
        Self::EngineError,
        Self::HubUnavailable,
        Self::ChecksumMismatch,
        Self::UpstreamUnavailable,
        Self::ModelLoading,
        Self::ModelRestarting,
        Self::ServerStopped,
        Self::InsufficientMemory,
        Self::InsufficientStorage,
    ];

    /// The HTTP status it is sent with.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidJson
            | Self::InvalidValue
            | Self::UnsupportedParameter
            | Self::ContextLengthExceeded
            | Self::InvalidJsonSchema
            | Self::UrlNotAllowed
            | Self::InvalidImage => 400,
            Self::InvalidApiKey => 401,
            Self::HostNotAllowed
            | Self::OriginNotAllowed
            | Self::InsufficientScope
            | Self::HubAccessDenied => 403,
            Self::ModelNotFound | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict | Self::HubOffline => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidModelFile | Self::TemplateError | Self::TemplateLimit => 422,
            Self::QueueFull | Self::HubRateLimited => 429,
            Self::EngineError => 500,
            Self::HubUnavailable | Self::ChecksumMismatch | Self::UpstreamUnavailable => 502,
            Self::ModelLoading | Self::ModelRestarting | Self::ServerStopped | Self::InsufficientMemory => {
                503
            }
            Self::InsufficientStorage => 507,
        }
    }

    /// OpenAI's `type` for it.
    pub const fn kind(self) -> &'static str {
        match self.status() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The code as it goes over the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidValue => "invalid_value",
            Self::UnsupportedParameter => "unsupported_parameter",
            Self::ContextLengthExceeded => "context_length_exceeded",
            Self::InvalidJsonSchema => "invalid_json_schema",
            Self::UrlNotAllowed => "url_not_allowed",
            Self::InvalidImage => "invalid_image",
            Self::InvalidApiKey => "invalid_api_key",
            Self::HostNotAllowed => "host_not_allowed",
            Self::OriginNotAllowed => "origin_not_allowed",
            Self::InsufficientScope => "insufficient_scope",
            Self::HubAccessDenied => "hub_access_denied",
            Self::ModelNotFound => "model_not_found",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::HubOffline => "hub_offline",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::InvalidModelFile => "invalid_model_file",
            Self::TemplateError => "template_error",
            Self::TemplateLimit => "template_limit",
            Self::QueueFull => "queue_full",
            Self::HubRateLimited => "hub_rate_limited",
            Self::EngineError => "engine_error",
            Self::HubUnavailable => "hub_unavailable",
            Self::ChecksumMismatch => "checksum_mismatch",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::ModelLoading => "model_loading",
            Self::ModelRestarting => "model_restarting",
            Self::ServerStopped => "server_stopped",
            Self::InsufficientMemory => "insufficient_memory",
            Self::InsufficientStorage => "insufficient_storage",
        }
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// OpenAI's error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorEnvelope {
    /// The error.
    pub error: ErrorBody,
}

/// What is inside OpenAI's error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong and what to do about it.
    pub message: String,
    /// The family of the error, e.g. `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field that is to blame, as a path: `messages[0].role`.
    pub param: Option<String>,
    /// The code, see [`ErrorCode`].
    pub code: Option<String>,
}

impl ErrorEnvelope {
    /// The envelope for `code`.
    pub fn new(code: ErrorCode, message: impl Into<String>, param: Option<String>) -> Self {
        Self {
            error: ErrorBody {
                message: message.into(),
                kind: code.kind().to_owned(),
                param,
                code: Some(code.as_str().to_owned()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_serialises_as_the_word_it_prints() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    /// The SDKs pick their exception class by the status.
    #[test]
    fn the_statuses_are_those_of_the_contract() {
        let expected = [
            (400, "invalid_json invalid_value unsupported_parameter context_length_exceeded"),
            (400, "invalid_json_schema url_not_allowed invalid_image"),
            (401, "invalid_api_key"),
            (403, "host_not_allowed origin_not_allowed insufficient_scope hub_access_denied"),
            (404, "model_not_found not_found"),
            (409, "conflict hub_offline"),
            (413, "payload_too_large"),
            (415, "unsupported_media_type"),
            (422, "invalid_model_file template_error template_limit"),
            (429, "queue_full hub_rate_limited"),
            (500, "engine_error"),
            (502, "hub_unavailable checksum_mismatch upstream_unavailable"),
            (503, "model_loading model_restarting server_stopped insufficient_memory"),
            (507, "insufficient_storage"),
        ];
        for (status, codes) in expected {
            for code in codes.split(' ') {
                let found = ErrorCode::ALL.iter().find(|c| c.as_str() == code).expect(code);
                assert_eq!(found.status(), status, "{code}");
            }
        }
    }
}
