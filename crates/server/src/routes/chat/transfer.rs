//! Exports, imports and images.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use perch_protocol::conversations::*;
use perch_protocol::{ErrorCode, ErrorEnvelope};

use super::settings;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Body, Query};

/// A conversation to keep elsewhere: JSON, which can be imported without loss, or the branch that is shown as Markdown.
#[utoipa::path(get, path = "/api/v1/chat/conversation/{id}/export", operation_id = "export_conversation", tag = "chat",
    params(("id" = String, Path, description = "The conversation"), ExportQuery), responses(
        (status = 200, description = "With `format=markdown`, a text", body = ConversationExport),
        (status = 400, description = "`invalid_value`", body = ErrorEnvelope),
        (status = 404, description = "`not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn export(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let named = |id: &str, end: &str| format!("attachment; filename=\"conversation-{id}.{end}\"");
    let name = id.clone();
    match query.format.as_deref().unwrap_or("json") {
        "json" => {
            let export = app.chats.read(move |store| store.export(&id)).await?;
            Ok(([(CONTENT_DISPOSITION, named(&name, "json"))], Json(export)).into_response())
        }
        "markdown" => {
            let text = app.chats.read(move |store| store.export_markdown(&id)).await?;
            let kind = "text/markdown; charset=utf-8".to_owned();
            Ok(([(CONTENT_TYPE, kind), (CONTENT_DISPOSITION, named(&name, "md"))], text).into_response())
        }
        _ => Err(ApiError::invalid("format", "format must be json or markdown")),
    }
}

/// Takes conversations in, all or none: an export in JSON as it is, or a text in Markdown.
#[utoipa::path(post, path = "/api/v1/chat/import", operation_id = "import_conversations", tag = "chat",
    params(ImportQuery), request_body = ConversationExport, responses(
        (status = 200, body = Imported),
        (status = 400, description = "`invalid_value`, with the path to what cannot be", body = ErrorEnvelope),
        (status = 409, description = "`conflict`: it is there already", body = ErrorEnvelope),
        (status = 413, description = "`payload_too_large`: raise `max_body`", body = ErrorEnvelope),
))]
pub(crate) async fn import(
    State(app): State<App>,
    Query(query): Query<ImportQuery>,
    Body(import): Body<ConversationExport>,
) -> Result<Json<Imported>, ApiError> {
    for (i, detail) in import.conversations.iter().flatten().enumerate() {
        settings::job(&detail.conversation.sampling, &format!("conversations[{i}].conversation.sampling"))?;
    }
    let store = app.chats.store().await?;
    let checked =
        tokio::task::spawn_blocking(move || store.import(import, query.copy.unwrap_or(false))).await;
    let failed = |_| ApiError::new(ErrorCode::EngineError, "the import failed; Perch's log says more");
    let conversations = checked.map_err(failed)??.await?;
    Ok(Json(Imported { conversations }))
}

/// An image of a conversation.
#[utoipa::path(get, path = "/api/v1/chat/images/{hash}", operation_id = "get_image", tag = "chat",
    params(("hash" = String, Path, description = "The end of its address in a message")), responses(
        (status = 200, description = "The image", body = Vec<u8>, content_type = "image/*"),
        (status = 404, description = "`not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn image(State(app): State<App>, Path(hash): Path<String>) -> Result<Response, ApiError> {
    let image = app.chats.read(move |store| store.image(&hash)).await?;
    // What an address names never changes.
    let headers = [
        (CONTENT_TYPE, image.media_type),
        (CACHE_CONTROL, "private, max-age=31536000, immutable".to_owned()),
    ];
    Ok((headers, image.bytes).into_response())
}
