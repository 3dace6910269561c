//! What the server is doing: `/api/status`, `/api/events`, `/api/requests` and `/metrics`.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use perch_protocol::{RequestList, Status};
use tokio_stream::wrappers::WatchStream;

use crate::app::App;
use crate::metrics;

/// What the server is doing.
#[utoipa::path(get, path = "/api/status", operation_id = "get_status", tag = "server", responses((status = 200, body = Status)))]
pub(crate) async fn now(State(app): State<App>) -> Json<Status> {
    Json(app.monitor.now())
}

/// The same, now and at every change, as server-sent events.
#[utoipa::path(get, path = "/api/events", operation_id = "watch_status", tag = "server", responses(
    (status = 200, description = "Events named `status`", body = Status, content_type = "text/event-stream"),
))]
pub(crate) async fn events(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = WatchStream::new(app.monitor.watch()).map(|status| {
        let event = Event::default().event("status");
        Ok(event.json_data(status).unwrap_or_else(|_| Event::default().comment("unwritable")))
    });
    let keep_alive = KeepAlive::new().interval(app.http.keep_alive);
    Sse::new(changes.take_until(app.stop.clone().cancelled_owned())).keep_alive(keep_alive)
}

/// The recent requests, without what was asked and answered.
#[utoipa::path(get, path = "/api/requests", operation_id = "list_requests", tag = "server", responses((status = 200, body = RequestList)))]
pub(crate) async fn requests(State(app): State<App>) -> Json<RequestList> {
    Json(RequestList { requests: app.activity.recent() })
}

/// Counters and gauges for Prometheus.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "server", responses(
    (status = 200, description = "OpenMetrics text", body = String, content_type = "text/plain"),
))]
pub(crate) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let text = app.metrics.render(&app.pool.all_loaded(), &app.monitor.resources());
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}
