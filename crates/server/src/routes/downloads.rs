//! `/local/download…`: models on their way from the hub to this machine.

use std::convert::Infallible;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use perch_hub::download::Downloads;
use perch_protocol::{Download, DownloadList, DownloadRequest, ErrorEnvelope};
use tokio_stream::wrappers::WatchStream;

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Body;
use crate::hub::{download, preference, wanted};

/// The routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/local/download", post(start))
        .route("/local/download/status", get(watch))
        .route("/local/downloads", get(list))
        .route("/local/download/{id}", delete(remove))
        .route("/local/download/{id}/pause", post(pause))
        .route("/local/download/{id}/resume", post(resume))
}

/// Downloads a model, or joins the download that fetches the same files already.
#[utoipa::path(post, path = "/local/download", operation_id = "start_download", tag = "downloads",
    request_body = DownloadRequest,
    responses(
        (status = 202, description = "It has begun; `/local/download/status` tells how it goes", body = Download),
        (status = 403, description = "Gated, or the token may not", body = ErrorEnvelope),
        (status = 404, description = "The hub has no such model, file or quantisation", body = ErrorEnvelope),
        (status = 409, description = "Offline: HF_HUB_OFFLINE is set", body = ErrorEnvelope),
        (status = 502, description = "The hub cannot be reached or fails", body = ErrorEnvelope),
        (status = 507, description = "The disk is too small; the message has the numbers", body = ErrorEnvelope),
    ))]
pub(crate) async fn start(
    State(app): State<App>,
    Body(request): Body<DownloadRequest>,
) -> Result<(StatusCode, Json<Download>), ApiError> {
    let (downloads, wanted) = (app.remote.downloads()?, wanted(&request)?);
    let started = downloads.start(&wanted, preference()).await?;
    Ok((StatusCode::ACCEPTED, Json(download(started))))
}

/// All downloads, now and at every change, as server-sent events.
#[utoipa::path(get, path = "/local/download/status", operation_id = "watch_downloads", tag = "downloads", responses(
    (status = 200, description = "Events named `downloads`", body = DownloadList, content_type = "text/event-stream"),
))]
pub(crate) async fn watch(
    State(app): State<App>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let downloads = app.remote.downloads()?.clone();
    let events = WatchStream::new(downloads.watch()).map(move |_| {
        let event = Event::default().event("downloads");
        Ok(event.json_data(all(&downloads)).unwrap_or_else(|_| Event::default().comment("unwritable")))
    });
    let keep_alive = KeepAlive::new().interval(app.http.keep_alive);
    Ok(Sse::new(events.take_until(app.stop.clone().cancelled_owned())).keep_alive(keep_alive))
}

/// All downloads that were not removed, in the order in which they were asked for.
#[utoipa::path(get, path = "/local/downloads", operation_id = "list_downloads", tag = "downloads", responses(
    (status = 200, body = DownloadList),
))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<DownloadList>, ApiError> {
    Ok(Json(all(app.remote.downloads()?)))
}

/// Lets a download stand still. What has arrived is kept.
#[utoipa::path(post, path = "/local/download/{id}/pause", operation_id = "pause_download", tag = "downloads",
    params(("id" = String, Path)),
    responses((status = 200, body = Download), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn pause(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Download>, ApiError> {
    Ok(Json(download(app.remote.downloads()?.pause(&id).await?)))
}

/// Lets a download that stands still or was given up go on from where it was.
#[utoipa::path(post, path = "/local/download/{id}/resume", operation_id = "resume_download", tag = "downloads",
    params(("id" = String, Path)),
    responses(
        (status = 200, body = Download),
        (status = 404, body = ErrorEnvelope),
        (status = 507, description = "The disk is too small", body = ErrorEnvelope),
    ))]
pub(crate) async fn resume(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Download>, ApiError> {
    Ok(Json(download(app.remote.downloads()?.resume(&id).await?)))
}

/// Ends a download, deletes what has arrived of unfinished files, and forgets it. Complete files stay.
#[utoipa::path(delete, path = "/local/download/{id}", operation_id = "remove_download", tag = "downloads",
    params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn remove(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    app.remote.downloads()?.remove(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn all(downloads: &Downloads) -> DownloadList {
    DownloadList { downloads: downloads.list().into_iter().map(download).collect() }
}
