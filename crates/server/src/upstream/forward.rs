//! `forward`: stands before the OpenAI routes, and sends on what names a model of another server.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Upstream, relay};
use crate::activity::Running;
use crate::app::App;
use crate::error::ApiError;
use crate::extract;
use crate::observe::RequestId;

/// The part of a request that says who is to answer it.
#[derive(Deserialize)]
struct Named {
    model: Option<String>,
}

/// Answers requests for models of other servers; all others go on to the route.
pub(crate) async fn forward(State(app): State<App>, request: Request, next: Next) -> Response {
    if !app.pool.settings().iter().any(|model| model.provider.is_some()) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let bytes = match extract::read(whole, &app.http).await {
        Ok(bytes) => bytes,
        Err(error) => return error.into_response(),
    };
    // What cannot be read is for the route to refuse.
    let name = serde_json::from_slice::<Named>(&bytes).ok().and_then(|named| named.model);
    match upstream(&app, name).await {
        Ok(None) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Some(upstream)) => {
            let id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
            let route = parts.uri.path().to_owned();
            let mut running = app.activity.begin(id, &route);
            running.answered_by(&upstream.id);
            match send(&app, &upstream, &route, &bytes).await {
                Ok(answer) => pass_on(upstream, answer, running).await,
                Err(error) => {
                    running.failed(&error);
                    error.into_response()
                }
            }
        }
        Err(error) => error.into_response(),
    }
}

/// The server that runs the model called `name`, or the default model; `None` for one of this machine.
async fn upstream(app: &App, name: Option<String>) -> Result<Option<Upstream>, ApiError> {
    let name = match name.filter(|name| !name.is_empty()) {
        Some(name) => name,
        None => match app.pool.default_name().await {
            Ok(name) => name,
            Err(_) => return Ok(None),
        },
    };
    match app.pool.find(&name).await {
        Ok(entry) => Upstream::of(&entry.config),
        // The route says that there is no such model.
        Err(_) => Ok(None),
    }
}

/// Sends the body on.
async fn send(
    app: &App,
    upstream: &Upstream,
    route: &str,
    body: &[u8],
) -> Result<reqwest::Response, ApiError> {
    let body: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        ApiError::new(perch_protocol::ErrorCode::InvalidJson, format!("the body is not valid JSON: {error}"))
    })?;
    upstream.send(&app.upstreams, route.trim_start_matches("/v1/"), body).await
}

/// Passes an answer on.
async fn pass_on(upstream: Upstream, answer: reqwest::Response, running: Running) -> Response {
    let status = answer.status();
    let fail = |running: Running, error: ApiError| {
        running.failed(&error);
        error.into_response()
    };
    if status.is_success() {
        let mut response = Response::new(Body::empty());
        if let Some(kind) = answer.headers().get(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        *response.body_mut() = relay::body(upstream, answer, running);
        return response;
    }
    // A client would take this for a refusal of its own key.
    if let Some(error) = upstream.refuses_key(status) {
        return fail(running, error);
    }
    let (retry, kind) =
        (answer.headers().get(RETRY_AFTER).cloned(), answer.headers().get(CONTENT_TYPE).cloned());
    let refusal = super::refusal(answer).await;
    let error = upstream.failed(format_args!("answers {status}"));
    if serde_json::from_slice::<Map<String, Value>>(&refusal).is_err() || status.is_redirection() {
        return fail(running, error);
    }
    running.failed(&error);
    let mut response = (status, refusal).into_response();
    for (name, value) in [(RETRY_AFTER, retry), (CONTENT_TYPE, kind)] {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
