//! The outermost middleware: gives each request an id, and tells the log and the metrics how it went. No bodies.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderValue;
use http::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use tracing::Instrument;
use uuid::Uuid;

use crate::metrics::Metrics;

/// Names a request, in its answer's header, in the log and in the list of recent requests.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Middleware.
pub(crate) async fn observe(
    State(metrics): State<Arc<Metrics>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = Uuid::now_v7().simple().to_string();
    // The pattern and not the path: what is counted must not be for clients to make up.
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "none".to_owned());
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(id.clone()));
    let span = tracing::info_span!("request", id, %method, route);
    let mut response = next.run(request).instrument(span.clone()).await;
    let (status, elapsed) = (response.status(), begun.elapsed());
    let known = if method.as_str().len() <= 7 { method.as_str() } else { "other" };
    metrics.http(known, &route, status.as_u16(), elapsed);
    span.in_scope(|| tracing::info!(status = status.as_u16(), ms = elapsed.as_millis() as u64, "answered"));
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
