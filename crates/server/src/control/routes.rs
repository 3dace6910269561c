//! The surface's routes: the state of the server and its changes, its status even while it is stopped, and for all else
//! the running server.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::{FromRef, FromRequest, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt, stream};
use perch_protocol::{AppPatch, AppState, ErrorCode, ErrorEnvelope, ServerState, StartRequest, Status};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use super::door::stopped;
use super::surface::{Token, admit};
use super::{Control, ControlError, Desktop, launch};
use crate::config::HttpConfig;
use crate::error::ApiError;
use crate::extract::Body;
use crate::routes::dashboard;
use crate::security::{Guard, guard};

/// What the surface's routes work with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(super) control: Control,
    pub(super) desktop: Arc<dyn Desktop>,
    pub(super) http: Arc<HttpConfig>,
    pub(super) stop: CancellationToken,
}

impl FromRef<Desk> for Arc<HttpConfig> {
    fn from_ref(desk: &Desk) -> Self {
        desk.http.clone()
    }
}

pub(super) fn router(desk: Desk, guards: Arc<Guard>, token: Arc<Token>) -> Router {
    Router::new()
        .route("/api/server", get(state))
        .route("/api/server/start", post(start))
        .route("/api/server/stop", post(self::stop))
        .route("/api/server/restart", post(restart))
        .route("/api/app", get(app).patch(change_app))
        .route("/api/status", get(status))
        .route("/api/events", get(events))
        .route("/", get(dashboard::page))
        .route("/assets/{file}", get(dashboard::asset))
        .fallback(forward)
        .layer(from_fn_with_state(token, admit))
        .layer(from_fn_with_state(guards, guard))
        .with_state(desk)
}

/// Whether the app's server runs. Only the app's own window can ask; elsewhere the answer is `not_found`.
#[utoipa::path(get, path = "/api/server", operation_id = "get_server", tag = "server", responses((status = 200, body = ServerState)))]
pub(crate) async fn state(State(desk): State<Desk>) -> Json<ServerState> {
    Json(desk.control.now().server)
}

/// Starts the app's server. One that runs already is left alone.
#[utoipa::path(post, path = "/api/server/start", operation_id = "start_server", tag = "server",
    request_body(content = Option<StartRequest>), responses((status = 200, body = ServerState)))]
pub(crate) async fn start(State(desk): State<Desk>, request: Request) -> Result<Json<ServerState>, ApiError> {
    let StartRequest { port } = wish(request, &desk).await?;
    to_its_end(&desk, |control| async move { control.start(port).await }).await
}

/// Stops the app's server; running answers have five seconds.
#[utoipa::path(post, path = "/api/server/stop", operation_id = "stop_server", tag = "server", responses((status = 200, body = ServerState)))]
pub(crate) async fn stop(State(desk): State<Desk>) -> Result<Json<ServerState>, ApiError> {
    to_its_end(&desk, |control| async move { Ok(control.stop().await) }).await
}

/// Stops the app's server if it runs, reads its configuration again, and starts it.
#[utoipa::path(post, path = "/api/server/restart", operation_id = "restart_server", tag = "server",
    request_body(content = Option<StartRequest>), responses((status = 200, body = ServerState)))]
pub(crate) async fn restart(
    State(desk): State<Desk>,
    request: Request,
) -> Result<Json<ServerState>, ApiError> {
    let StartRequest { port } = wish(request, &desk).await?;
    to_its_end(&desk, |control| async move { control.restart(port).await }).await
}

/// The app's place in the session. Only the app's own window can ask; elsewhere the answer is `not_found`.
#[utoipa::path(get, path = "/api/app", operation_id = "get_app", tag = "server", responses((status = 200, body = AppState)))]
pub(crate) async fn app(State(desk): State<Desk>) -> Result<Json<AppState>, ApiError> {
    with_system(&desk, |_| Ok(())).await
}

/// Changes the app's place in the session, and tells it as the system has it then.
#[utoipa::path(patch, path = "/api/app", operation_id = "change_app", tag = "server", request_body = AppPatch, responses(
    (status = 200, body = AppState),
    (status = 500, description = "`engine_error`: the system refuses", body = ErrorEnvelope),
))]
pub(crate) async fn change_app(
    State(desk): State<Desk>,
    Body(patch): Body<AppPatch>,
) -> Result<Json<AppState>, ApiError> {
    with_system(&desk, move |desktop| patch.launch_at_login.map_or(Ok(()), |on| desktop.launch_at_login(on)))
        .await
}

/// Asks something of the system, where blocking is allowed, and what is so afterwards.
async fn with_system(
    desk: &Desk,
    work: impl FnOnce(&dyn Desktop) -> Result<(), String> + Send + 'static,
) -> Result<Json<AppState>, ApiError> {
    let desktop = desk.desktop.clone();
    let done = tokio::task::spawn_blocking(move || {
        work(&*desktop)?;
        Ok(AppState { launch_at_login: desktop.launches_at_login()? })
    });
    let refused = |error| ApiError::new(ErrorCode::EngineError, format!("launch at login: {error}"));
    done.await.unwrap_or_else(|_| Err("asking the system failed".to_owned())).map(Json).map_err(refused)
}

/// The same routes on a server's own port.
pub(crate) async fn elsewhere() -> ApiError {
    let message = "only the Perch app has this, in its menu and its own window; `perch serve` is stopped where it was \
                   started, and `perch service install` starts it with the system";
    ApiError::new(ErrorCode::NotFound, message)
}

/// The body, which may be left out.
async fn wish(request: Request, desk: &Desk) -> Result<StartRequest, ApiError> {
    if request.body().is_end_stream() {
        return Ok(StartRequest::default());
    }
    Body::from_request(request, desk).await.map(|Body(wish)| wish)
}

/// Does it in a task of its own: a window that goes away must not leave a server half started.
async fn to_its_end<F>(desk: &Desk, work: impl FnOnce(Control) -> F) -> Result<Json<ServerState>, ApiError>
where
    F: Future<Output = Result<ServerState, ControlError>> + Send + 'static,
{
    let done = desk.control.tasks().spawn(work(desk.control.clone())).await;
    let error = match done {
        Ok(Ok(state)) => return Ok(Json(state)),
        Ok(Err(error)) => error,
        Err(_) => ControlError::Panicked,
    };
    Err(ApiError::new(launch::code(&error), launch::problem(&error).message))
}

/// What the server is doing, running or not.
async fn status(State(desk): State<Desk>) -> Json<Status> {
    Json(desk.control.now().status)
}

/// The same, now and at every change: events named `status`, and `server` for whether it runs.
async fn events(State(desk): State<Desk>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let event = |name: &str, data: Result<Event, axum::Error>| {
        Ok(data.map_or_else(|_| Event::default().comment("unwritable"), |event| event.event(name)))
    };
    let changes = WatchStream::new(desk.control.watch()).flat_map(move |seen| {
        let server = event("server", Event::default().json_data(seen.server));
        let status = event("status", Event::default().json_data(seen.status));
        stream::iter([server, status])
    });
    let keep_alive = KeepAlive::new().interval(desk.http.keep_alive);
    Sse::new(changes.take_until(desk.stop.cancelled_owned())).keep_alive(keep_alive)
}

/// Everything else is the running server's.
async fn forward(State(desk): State<Desk>, request: Request) -> Response {
    let answer = match desk.control.door() {
        Some(door) => door.call(request).await,
        None => None,
    };
    answer.unwrap_or_else(|| stopped().into_response())
}
