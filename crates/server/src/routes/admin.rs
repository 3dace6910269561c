//! What is done with the models in memory: load, unload, pin, the default model, and reading or building all anew.

use axum::Json;
use axum::extract::State;
use perch_protocol::*;

use crate::app::App;
use crate::config::Lifetime;
use crate::error::ApiError;
use crate::extract::Body;

/// Loads a model, and answers when it is ready. One that is in memory counts as just used.
#[utoipa::path(post, path = "/api/v1/load-model", operation_id = "load_model", tag = "models",
    request_body = LoadModelRequest, responses(
        (status = 200, description = "It is ready", body = ModelStatus),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
        (status = 409, description = "`conflict`: all places are taken by pinned models", body = ErrorEnvelope),
        (status = 422, description = "`invalid_model_file`", body = ErrorEnvelope),
        (status = 503, description = "`insufficient_memory`, with the numbers; `model_loading`", body = ErrorEnvelope),
))]
pub(crate) async fn load(
    State(app): State<App>,
    Body(request): Body<LoadModelRequest>,
) -> Result<Json<ModelStatus>, ApiError> {
    let keep_alive = request.keep_alive.map(lifetime).transpose()?;
    let name = named(&request.model)?;
    tokio::select! {
        status = app.pool.load(name, keep_alive) => Ok(Json(status?)),
        () = app.stop.cancelled() => Err(ApiError::stopping()),
    }
}

/// Unloads a model, and answers when its memory is free. A pinned one as well: its pin is for the next time.
#[utoipa::path(post, path = "/api/v1/unload-model", operation_id = "unload_model", tag = "models",
    request_body = UnloadModelRequest, responses(
        (status = 200, description = "It is not in memory", body = UnloadedModel),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
        (status = 409, description = "`conflict`: it is in use", body = ErrorEnvelope),
))]
pub(crate) async fn unload(
    State(app): State<App>,
    Body(request): Body<UnloadModelRequest>,
) -> Result<Json<UnloadedModel>, ApiError> {
    let name = named(&request.model)?;
    tokio::select! {
        done = app.pool.unload(name, request.in_use) => {
            let (model, unloaded) = done?;
            Ok(Json(UnloadedModel { model, unloaded }))
        }
        () = app.stop.cancelled() => Err(ApiError::stopping()),
    }
}

/// Pins a model: once in memory it stays, whatever else is asked for. Kept over restarts.
#[utoipa::path(post, path = "/api/v1/pin-model", operation_id = "pin_model", tag = "models",
    request_body = PinModelRequest, responses(
        (status = 200, body = PinnedModel),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn pin(
    State(app): State<App>,
    Body(request): Body<PinModelRequest>,
) -> Result<Json<PinnedModel>, ApiError> {
    let model = app.pool.pin(named(&request.model)?, true).await?;
    Ok(Json(PinnedModel { model, pinned: true }))
}

/// Takes a model's pin away.
#[utoipa::path(post, path = "/api/v1/unpin-model", operation_id = "unpin_model", tag = "models",
    request_body = PinModelRequest, responses(
        (status = 200, body = PinnedModel),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn unpin(
    State(app): State<App>,
    Body(request): Body<PinModelRequest>,
) -> Result<Json<PinnedModel>, ApiError> {
    let model = app.pool.pin(named(&request.model)?, false).await?;
    Ok(Json(PinnedModel { model, pinned: false }))
}

/// The model that answers requests which name none, and why.
#[utoipa::path(get, path = "/api/default-model", operation_id = "get_default_model", tag = "models", responses(
    (status = 200, body = DefaultModel),
))]
pub(crate) async fn default_model(State(app): State<App>) -> Json<DefaultModel> {
    Json(app.pool.default_now().await)
}

/// Makes a model the default, from now on and after a restart. Does not load it.
#[utoipa::path(put, path = "/api/default-model", operation_id = "choose_default_model", tag = "models",
    request_body = DefaultModelRequest, responses(
        (status = 200, body = DefaultModel),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
        (status = 409, description = "`conflict`: the configuration names another", body = ErrorEnvelope),
))]
pub(crate) async fn choose_default(
    State(app): State<App>,
    Body(request): Body<DefaultModelRequest>,
) -> Result<Json<DefaultModel>, ApiError> {
    let name = request.model.as_deref().map(named).transpose()?;
    Ok(Json(app.pool.choose_default(name).await?))
}

/// Reads the `[[models]]` of `config.toml` and `models.toml` again, and looks at the folders anew.
#[utoipa::path(post, path = "/v1/admin/reload", operation_id = "reload_models", tag = "models", responses(
    (status = 200, body = Reloaded),
    (status = 400, description = "`invalid_value`: a file is damaged, and nothing was changed", body = ErrorEnvelope),
))]
pub(crate) async fn reload(State(app): State<App>) -> Result<Json<Reloaded>, ApiError> {
    Ok(Json(app.pool.reload().await?))
}

/// Rebuilds all engines in place. Running answers have five seconds to end; requests that come meanwhile wait.
#[utoipa::path(post, path = "/v1/admin/restart", operation_id = "restart_models", tag = "models", responses(
    (status = 200, body = Restarted),
    (status = 400, description = "`invalid_value`: a file is damaged, and nothing was changed", body = ErrorEnvelope),
    (status = 409, description = "`conflict`: a restart is going on", body = ErrorEnvelope),
))]
pub(crate) async fn restart(State(app): State<App>) -> Result<Json<Restarted>, ApiError> {
    Ok(Json(app.pool.restart().await?))
}

fn named(name: &str) -> Result<&str, ApiError> {
    match name {
        "" => Err(ApiError::invalid("model", "`model` must name a model; GET /v1/models lists them")),
        name => Ok(name),
    }
}

/// How long a model is kept, as a request says it.
pub(crate) fn lifetime(said: KeepAlive) -> Result<Lifetime, ApiError> {
    let text = match said {
        KeepAlive::Seconds(seconds) => seconds.to_string(),
        KeepAlive::Text(text) => text,
    };
    text.parse().map_err(|reason: String| ApiError::invalid("keep_alive", reason))
}
