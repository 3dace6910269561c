//! `App`: what every route works with, and the router that puts routes, guards and limits together.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderValue, Method};
use perch_protocol::ErrorCode;
use perch_usage::Recorder;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::activity::Activity;
use crate::chats::Chats;
use crate::config::HttpConfig;
use crate::control::routes as control;
use crate::error::ApiError;
use crate::hub::Remote;
use crate::library::{LastUsed, LocalLibrary};
use crate::logs::LogBuffer;
use crate::metrics::Metrics;
use crate::observe::observe;
use crate::pool::ModelPool;
use crate::routes::{
    admin, chat, dashboard, docs, downloads, health, hub, library, logs, openai, settings, status, usage,
};
use crate::security::{Guard, Scope, guard, require};
use crate::settings::SettingsStore;
use crate::status::Monitor;
use crate::upstream::{Upstreams, forward};

/// What every route works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) pool: ModelPool,
    pub(crate) remote: Remote,
    /// The way to servers that run models in place of this one.
    pub(crate) upstreams: Upstreams,
    pub(crate) chats: Chats,
    pub(crate) activity: Arc<Activity>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) usage: Arc<Recorder>,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) http: Arc<HttpConfig>,
    pub(crate) settings: Arc<SettingsStore>,
    pub(crate) logs: LogBuffer,
    pub(crate) library: LocalLibrary,
    pub(crate) last_used: Arc<LastUsed>,
    /// Templates and tokenizers at work at once.
    pub(crate) text_work: Arc<Semaphore>,
    /// The server is told to stop: streams that have no end of their own end.
    pub(crate) stop: CancellationToken,
    /// The time to drain is over: answers end with an error.
    pub(crate) abort: CancellationToken,
}

impl FromRef<App> for Arc<HttpConfig> {
    fn from_ref(app: &App) -> Self {
        app.http.clone()
    }
}

/// All routes. Each request passes, from the outside in: the observer (id, log, metrics), the guard (host, origin,
/// content type), CORS, the key check of its group, and the catcher of panics.
pub(crate) fn router(app: App, guards: Arc<Guard>) -> Router {
    let keyed = |scope: Scope| from_fn_with_state((guards.clone(), scope), require);
    let answering = Router::new()
        .route("/v1/chat/completions", post(openai::chat::create))
        .route("/v1/completions", post(openai::completions::create))
        .route_layer(from_fn_with_state(app.clone(), forward));
    let inference = Router::new()
        .route("/v1/models", get(openai::models::list))
        .route("/v1/models/{*id}", get(openai::models::one))
        .merge(answering)
        .merge(chat::asking())
        .route_layer(keyed(Scope::Inference));
    let admin = Router::new()
        .route("/api/v1/load-model", post(admin::load))
        .route("/api/v1/unload-model", post(admin::unload))
        .route("/api/v1/pin-model", post(admin::pin))
        .route("/api/v1/unpin-model", post(admin::unpin))
        .route("/api/default-model", get(admin::default_model).put(admin::choose_default))
        .route("/v1/admin/reload", post(admin::reload))
        .route("/v1/admin/restart", post(admin::restart))
        .merge(chat::keeping())
        .merge(hub::routes())
        .merge(downloads::routes())
        .route("/local/models", get(library::list))
        .route("/local/models/{*id}", get(library::one).delete(library::remove))
        .route("/local/import", post(library::import))
        .route("/local/storage/stats", get(library::stats))
        .route("/local/storage/cleanup", post(library::cleanup))
        .route("/metrics", get(status::metrics))
        .route("/api/status", get(status::now))
        .route("/api/events", get(status::events))
        .route("/api/requests", get(status::requests))
        .route("/v1/admin/usage", get(usage::report).delete(usage::erase))
        .route("/v1/admin/usage/export", get(usage::export))
        .route("/api/settings", get(settings::get).patch(settings::change))
        .route("/api/logs", get(logs::list))
        .route("/api/logs/stream", get(logs::watch))
        .route("/api/app", get(control::elsewhere).patch(control::elsewhere))
        .route("/api/server", get(control::elsewhere))
        .route("/api/server/{change}", post(control::elsewhere))
        .route_layer(keyed(Scope::Admin));
    let open = Router::new()
        .route("/", get(dashboard::page))
        .route("/assets/{file}", get(dashboard::asset))
        .route("/health", get(health::health))
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::swagger))
        .route("/docs/{file}", get(docs::asset))
        .route("/redoc", get(docs::redoc))
        .route("/redoc/{file}", get(docs::asset));
    inference
        .merge(admin)
        .merge(open)
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors(guards.clone()))
        .layer(from_fn_with_state(guards, guard))
        .layer(from_fn_with_state(app.metrics.clone(), observe))
        .with_state(app)
}

/// CORS for the origins of the list, and no others.
fn cors(guards: Arc<Guard>) -> CorsLayer {
    let listed =
        move |origin: &HeaderValue, _: &http::request::Parts| guards.allowed.is_listed(origin.as_bytes());
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(listed))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        // Browsers do not take `*` for Authorization; SDKs send headers of their own (`x-stainless-…`).
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers([HeaderName::from_static("x-request-id"), RETRY_AFTER])
        .allow_private_network(true)
}

async fn no_route(method: Method, uri: http::Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("there is no route {method} {path}; /docs lists all routes");
    ApiError::new(ErrorCode::NotFound, message)
}

async fn no_method(method: Method, uri: http::Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(
        ErrorCode::MethodNotAllowed,
        format!("{path} does not answer {method}; see the header Allow"),
    )
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    use axum::response::IntoResponse;
    let text = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    tracing::error!(panic = text.unwrap_or_default(), "a handler panicked");
    ApiError::new(ErrorCode::EngineError, "Perch failed on this request; its log says more").into_response()
}
