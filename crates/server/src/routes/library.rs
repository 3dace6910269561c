//! The models on this machine: listing, describing, deleting and importing them, and the room that they take.

use axum::Json;
use axum::extract::{Path, State};
use perch_protocol::*;

use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Body, Query};
use crate::library::{LocalLibrary, Running};

/// The models on this machine.
#[utoipa::path(get, path = "/local/models", operation_id = "list_local_models", tag = "library", responses(
    (status = 200, body = LocalModelList),
))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<LocalModelList>, ApiError> {
    app.last_used.note(&app.activity);
    let known = app.clone();
    blocking(&app, move |library| Ok(library.list(&|id| known.running(id)))).await
}

/// One model with everything that is known about it, and what deleting it would remove.
#[utoipa::path(get, path = "/local/models/{id}", operation_id = "get_local_model", tag = "library",
    params(("id" = String, Path, description = "The model's id, slashes as they are")),
    responses(
        (status = 200, body = LocalModelDetails),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
    ),
)]
pub(crate) async fn one(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<LocalModelDetails>, ApiError> {
    app.last_used.note(&app.activity);
    let known = app.clone();
    blocking(&app, move |library| {
        let id = library.id_of(&id)?;
        library.details(&id, known.running(&id))
    })
    .await
}

/// Deletes a model. Bytes that another model, revision or program needs stay, and so does what a link leads to; the
/// answer lists what went and what stayed, and why.
#[utoipa::path(delete, path = "/local/models/{id}", operation_id = "delete_local_model", tag = "library",
    params(("id" = String, Path, description = "The model's id, slashes as they are"), RemoveQuery),
    responses(
        (status = 200, body = Removal),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
        (status = 409, description = "`conflict`: it is in memory, or another program or model needs it", body = ErrorEnvelope),
    ),
)]
pub(crate) async fn remove(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<RemoveQuery>,
) -> Result<Json<Removal>, ApiError> {
    // First as a plan: what cannot be removed is not unloaded either.
    let plan = {
        let (id, query) = (id.clone(), RemoveQuery { dry_run: true, ..query });
        blocking(&app, move |library| library.remove(&id, query)).await?
    };
    if query.dry_run {
        return Ok(plan);
    }
    let name = plan.id.clone();
    if app.pool.is_present(&name) {
        if !query.force {
            let message = format!("`{name}` is in memory; unload it first, or delete it with `force=true`");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        app.pool.unload(&name, InUse::Cancel).await?;
    }
    let done = blocking(&app, move |library| library.remove(&name, query)).await;
    changed(
        &app,
        done.as_ref().is_ok_and(|done| done.items.iter().any(|item| item.kind == StorageItemKind::Entry)),
    )
    .await;
    done
}

/// Imports models from a file or folder, the Hugging Face cache, LM Studio or Ollama: by link, by reference, or as a
/// copy. Each is opened before it counts; one that fails is listed with the reason.
#[utoipa::path(post, path = "/local/import", operation_id = "import_models", tag = "library",
    request_body = ImportRequest, responses(
        (status = 200, body = ImportReport),
        (status = 400, description = "`invalid_value`: there is no model there, or it cannot have the name", body = ErrorEnvelope),
        (status = 404, description = "`not_found`: the other program is not on this machine", body = ErrorEnvelope),
))]
pub(crate) async fn import(
    State(app): State<App>,
    Body(request): Body<ImportRequest>,
) -> Result<Json<ImportReport>, ApiError> {
    let report = blocking(&app, move |library| library.import(&request)).await?;
    if !report.dry_run && !report.imported.is_empty() {
        changed(&app, report.settings_changed).await;
    }
    Ok(report)
}

/// What models take on the disks, each byte counted once.
#[utoipa::path(get, path = "/local/storage/stats", operation_id = "get_storage_stats", tag = "library", responses(
    (status = 200, body = StorageStats),
))]
pub(crate) async fn stats(State(app): State<App>) -> Result<Json<StorageStats>, ApiError> {
    blocking(&app, |library| Ok(library.usage())).await
}

/// Removes what no model, revision or running program needs. Only says what that is unless `dry_run` is false.
#[utoipa::path(post, path = "/local/storage/cleanup", operation_id = "clean_up_storage", tag = "library",
    request_body = CleanupRequest, responses(
        (status = 200, body = CleanupReport),
))]
pub(crate) async fn cleanup(
    State(app): State<App>,
    Body(request): Body<CleanupRequest>,
) -> Result<Json<CleanupReport>, ApiError> {
    let report = blocking(&app, move |library| library.cleanup(&request)).await?;
    if !report.dry_run {
        changed(&app, false).await;
    }
    Ok(report)
}

/// Models came or went. Settings that cannot be read again stay as they were; the log says why.
async fn changed(app: &App, settings: bool) {
    app.pool.refresh();
    if settings && let Err(error) = app.pool.reload().await {
        tracing::warn!(code = %error.code, "the settings of the models were not read again: {error}");
    }
}

/// Runs `work` where blocking is allowed.
async fn blocking<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(LocalLibrary) -> Result<T, ApiError> + Send + 'static,
) -> Result<Json<T>, ApiError> {
    let library = app.library.with_settings(app.pool.settings());
    let done = tokio::task::spawn_blocking(move || work(library)).await;
    done.unwrap_or_else(|_| Err(ApiError::new(ErrorCode::EngineError, "looking at the models failed")))
        .map(Json)
}

impl App {
    fn running(&self, id: &str) -> Running {
        Running { loaded: self.pool.loaded(id).is_some(), last_used_at: self.last_used.of(id) }
    }
}
