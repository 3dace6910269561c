//! `GET /health`: whether an answer could be had now. Needs no key, and never waits for anything.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use perch_protocol::Health;

use crate::app::App;

/// Whether an answer could be had now.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "server", responses(
    (status = 200, description = "Answers can be had", body = Health),
    (status = 503, description = "Answers would fail, and why", body = Health),
))]
pub(crate) async fn health(State(app): State<App>) -> (StatusCode, Json<Health>) {
    match app.monitor.health() {
        Ok(health) => (StatusCode::OK, Json(health)),
        Err(health) => (StatusCode::SERVICE_UNAVAILABLE, Json(health)),
    }
}
