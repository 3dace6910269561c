//! `Door`: the way into a running server from within its process. What goes through it is drained as any connection is.

use std::net::Ipv4Addr;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use http::Method;
use http::header::{CONTENT_TYPE, COOKIE, HOST};
use http_body_util::BodyExt;
use perch_protocol::ErrorCode;
use serde_json::Value;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::error::ApiError;
use crate::http::Signals;
use crate::security::{LocalIp, Trusted};

/// The way into a running server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) router: Router,
    pub(crate) tasks: TaskTracker,
    pub(crate) signals: Signals,
}

impl Door {
    /// Answers a request of the app's own window, which needs no key. `None` when the server takes no more requests.
    pub(crate) async fn call(self, mut request: Request) -> Option<Response> {
        // Held until the answer's last byte is written: the server waits for it when it stops.
        let held = self.tasks.token();
        if self.signals.stop.is_cancelled() {
            return None;
        }
        request.extensions_mut().insert(Trusted);
        // The window's own; no business of the server's.
        request.headers_mut().remove(COOKIE);
        let kill = self.signals.kill;
        let answer = kill.clone().run_until_cancelled_owned(self.router.oneshot(request)).await?;
        let Ok(answer) = answer;
        Some(answer.map(|body| {
            let data = body.into_data_stream().take_until(kill.cancelled_owned());
            Body::from_stream(data.map(move |chunk| {
                let _held = &held;
                chunk
            }))
        }))
    }
}

impl Door {
    /// Asks the server something over its own API, as the dashboard would.
    ///
    /// # Errors
    /// Whatever the route answers, or `server_stopped`.
    pub(crate) async fn ask(
        self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let failed = || ApiError::new(ErrorCode::EngineError, "the server's answer could not be read");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "127.0.0.1")
            .header(CONTENT_TYPE, "application/json")
            .extension(LocalIp(Ipv4Addr::LOCALHOST.into()))
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .map_err(|error| ApiError::new(ErrorCode::NotFound, error.to_string()))?;
        let response = self.call(request).await.ok_or_else(stopped)?;
        if let Some(error) = response.extensions().get::<ApiError>() {
            return Err(error.clone());
        }
        let bytes = response.into_body().collect().await.map_err(|_| failed())?.to_bytes();
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| failed())
    }
}

/// There is no server to ask.
pub(super) fn stopped() -> ApiError {
    let message = "the server is stopped; start it from the menu, or with POST /api/server/start";
    ApiError::new(ErrorCode::ServerStopped, message)
}
