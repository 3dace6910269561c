//! Applies the lists and keys to requests, before anything else looks at them and before the body is read.
//!
//! Order: host, origin, content type; then, for the routes that have one, the key and its scope.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method};
use parking_lot::RwLock;
use perch_protocol::ErrorCode;

use super::keys::Refusal;
use super::{Allowed, KeyRing, Scope};
use crate::error::ApiError;

/// The lists and keys of a running server.
pub(crate) struct Guard {
    pub(crate) allowed: Allowed,
    keys: RwLock<KeyRing>,
}

impl Guard {
    pub(crate) fn new(allowed: Allowed, keys: KeyRing) -> Self {
        Self { allowed, keys: RwLock::new(keys) }
    }

    /// From now on these keys count, and no others.
    pub(crate) fn set_keys(&self, keys: KeyRing) {
        *self.keys.write() = keys;
    }
}

/// The address on which a connection came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalIp(pub(crate) IpAddr);

/// Marks a request that this process makes of itself, for the app's own window: it needs no key. An extension cannot
/// come in over the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trusted;

/// Middleware: host, origin and content type.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    Extension(LocalIp(local)): Extension<LocalIp>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let headers = request.headers();
    if !guard.allowed.host(request.uri(), headers, local) {
        return Err(ApiError::new(
            ErrorCode::HostNotAllowed,
            format!(
                "the Host header {} names no host of this server; if you trust it, add it to `allowed_hosts`",
                shown(headers, "host")
            ),
        ));
    }
    if !guard.allowed.origin(headers) {
        return Err(ApiError::new(
            ErrorCode::OriginNotAllowed,
            format!(
                "the origin {} may not call this server; if you trust it, add it to `allowed_origins`",
                shown(headers, "origin")
            ),
        ));
    }
    let writes = [Method::POST, Method::PUT, Method::PATCH];
    if writes.contains(request.method()) && !is_json(headers) {
        return Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "send the body as JSON, with the header Content-Type: application/json",
        ));
    }
    Ok(next.run(request).await)
}

/// Middleware: a key with the scope.
pub(crate) async fn require(
    State((guard, scope)): State<(Arc<Guard>, Scope)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if request.extensions().get::<Trusted>().is_some() {
        return Ok(next.run(request).await);
    }
    let admitted = guard.keys.read().admit(presented(request.headers()), scope);
    admitted.map_err(|refusal| match refusal {
        Refusal::Missing => ApiError::new(
            ErrorCode::InvalidApiKey,
            "this server needs an API key; send it as Authorization: Bearer KEY, or as x-api-key",
        ),
        Refusal::Unknown => {
            ApiError::new(ErrorCode::InvalidApiKey, "the API key is not one of this server's")
        }
        Refusal::Scope => ApiError::new(
            ErrorCode::InsufficientScope,
            format!("the API key lacks the scope `{scope}`; add it to the key's `scopes`"),
        ),
    })?;
    Ok(next.run(request).await)
}

/// The key that a request presents: OpenAI's header, or else Anthropic's.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(|value| value.as_bytes()))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

/// A header's value for an error message: printable and short.
fn shown(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    format!("`{}`", value.chars().take(100).collect::<String>())
}
