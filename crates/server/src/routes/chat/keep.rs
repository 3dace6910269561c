//! Conversations: made, listed, searched, shown, changed, forked, deleted.

use axum::Json;
use axum::extract::{Path, State};
use perch_protocol::ErrorEnvelope;
use perch_protocol::conversations::*;

use super::settings;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{Body, Query};

/// Makes a conversation without messages.
#[utoipa::path(post, path = "/api/v1/chat/new", operation_id = "create_conversation", tag = "chat",
    request_body = NewConversation, responses(
        (status = 200, body = Conversation),
        (status = 400, description = "`invalid_value`", body = ErrorEnvelope),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
        (status = 507, description = "`insufficient_storage`", body = ErrorEnvelope),
))]
pub(crate) async fn create(
    State(app): State<App>,
    Body(mut wanted): Body<NewConversation>,
) -> Result<Json<Conversation>, ApiError> {
    wanted.model = known(&app, wanted.model).await?;
    if let Some(sampling) = &wanted.sampling {
        settings::job(sampling, "sampling")?;
    }
    Ok(Json(app.chats.store().await?.create(wanted).await?))
}

/// Conversations, the last changed first; with `q`, those in which its words are found, with where.
#[utoipa::path(get, path = "/api/v1/chat/conversations", operation_id = "list_conversations", tag = "chat",
    params(ConversationQuery), responses(
        (status = 200, body = ConversationList),
        (status = 400, description = "`invalid_value`", body = ErrorEnvelope),
))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(query): Query<ConversationQuery>,
) -> Result<Json<ConversationList>, ApiError> {
    let list = app.chats.read(move |store| {
        let (conversations, next_cursor) = store.list(&query)?;
        let notice = store.recovery().map(|recovery| perch_protocol::Problem {
            code: "recovered".to_owned(),
            message: recovery.message(),
        });
        Ok(ConversationList { conversations, next_cursor, notice })
    });
    Ok(Json(list.await?))
}

/// A conversation with its messages on all branches.
#[utoipa::path(get, path = "/api/v1/chat/conversation/{id}", operation_id = "get_conversation", tag = "chat",
    params(("id" = String, Path, description = "The conversation"), MessageQuery), responses(
        (status = 200, body = ConversationDetail),
        (status = 404, description = "`not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn show(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(query): Query<MessageQuery>,
) -> Result<Json<ConversationDetail>, ApiError> {
    Ok(Json(app.chats.read(move |store| store.detail(&id, &query)).await?))
}

/// Changes a conversation: its title, model, system prompt, settings, whether it is pinned, which branch is shown.
#[utoipa::path(patch, path = "/api/v1/chat/conversation/{id}", operation_id = "change_conversation", tag = "chat",
    params(("id" = String, Path, description = "The conversation")), request_body = ConversationPatch, responses(
        (status = 200, body = Conversation),
        (status = 400, description = "`invalid_value`", body = ErrorEnvelope),
        (status = 404, description = "`not_found`, `model_not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn change(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(mut patch): Body<ConversationPatch>,
) -> Result<Json<Conversation>, ApiError> {
    if let Some(model) = patch.model.take() {
        patch.model = known(&app, Some(model)).await?.or(Some(String::new()));
    }
    if let Some(sampling) = &patch.sampling {
        settings::job(sampling, "sampling")?;
    }
    Ok(Json(app.chats.store().await?.patch(id, patch).await?))
}

/// Deletes a conversation with its messages. An answer that is being written in it ends.
#[utoipa::path(delete, path = "/api/v1/chat/conversation/{id}", operation_id = "delete_conversation", tag = "chat",
    params(("id" = String, Path, description = "The conversation")), responses(
        (status = 200, body = Deleted),
        (status = 404, description = "`not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn delete(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Json<Deleted>, ApiError> {
    app.chats.store().await?.delete(id.clone()).await?;
    app.chats.cancel(&id);
    Ok(Json(Deleted { id, deleted: true }))
}

/// Copies a conversation up to a message into a new one.
#[utoipa::path(post, path = "/api/v1/chat/conversation/{id}/fork", operation_id = "fork_conversation", tag = "chat",
    params(("id" = String, Path, description = "The conversation")), request_body = ForkRequest, responses(
        (status = 200, body = Conversation),
        (status = 404, description = "`not_found`: no such conversation, or no such message in it", body = ErrorEnvelope),
))]
pub(crate) async fn fork(
    State(app): State<App>,
    Path(id): Path<String>,
    Body(request): Body<ForkRequest>,
) -> Result<Json<Conversation>, ApiError> {
    Ok(Json(app.chats.store().await?.fork(id, request.message_id, request.title).await?))
}

/// The id of the model that is named; none for an empty name.
async fn known(app: &App, name: Option<String>) -> Result<Option<String>, ApiError> {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(app.pool.find(&name).await?.id.clone())),
        None => Ok(None),
    }
}
