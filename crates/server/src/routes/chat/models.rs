//! Models as a chat shows them, switching between them, and whether answers can be had.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use perch_protocol::ErrorEnvelope;
use perch_protocol::conversations::*;

use crate::app::App;
use crate::clock::millis;
use crate::error::ApiError;
use crate::extract::{Body, Query};
use crate::pool::Entry;

/// The models on this machine, and which of them new conversations use.
#[utoipa::path(get, path = "/api/v1/chat/models", operation_id = "list_chat_models", tag = "chat",
    responses((status = 200, body = ChatModels)))]
pub(crate) async fn list(State(app): State<App>) -> Json<ChatModels> {
    let models = app.pool.list().await.iter().map(|entry| model(&app, entry)).collect();
    Json(ChatModels { models, current: app.pool.default_now().await.model })
}

/// Loads a model, and makes it the one that answers: in a conversation, or in all new ones.
#[utoipa::path(post, path = "/api/v1/chat/switch-model", operation_id = "switch_model", tag = "chat",
    request_body = SwitchModel, responses(
        (status = 200, description = "It is loaded", body = SwitchedModel),
        (status = 404, description = "`model_not_found`; `not_found`: no such conversation", body = ErrorEnvelope),
        (status = 409, description = "`conflict`: the default model is configured", body = ErrorEnvelope),
        (status = 422, description = "`invalid_model_file`", body = ErrorEnvelope),
        (status = 503, description = "`insufficient_memory`, `model_loading`", body = ErrorEnvelope),
))]
pub(crate) async fn switch(
    State(app): State<App>,
    Body(request): Body<SwitchModel>,
) -> Result<Json<SwitchedModel>, ApiError> {
    if request.model.is_empty() {
        return Err(ApiError::invalid("model", "name a model; GET /api/v1/chat/models lists them"));
    }
    if let Some(id) = request.conversation_id.clone() {
        // Before minutes are spent on loading.
        app.chats.read(move |store| store.conversation(&id)).await?;
    }
    let lease = tokio::select! {
        lease = app.pool.lease(Some(&request.model)) => lease?,
        () = app.stop.cancelled() => return Err(ApiError::stopping()),
    };
    let conversation = match request.conversation_id {
        Some(id) => {
            let patch = ConversationPatch { model: Some(lease.id.clone()), ..ConversationPatch::default() };
            Some(app.chats.store().await?.patch(id, patch).await?)
        }
        None => {
            app.pool.choose_default(Some(&lease.id)).await?;
            None
        }
    };
    Ok(Json(SwitchedModel { model: model(&app, lease.entry()), conversation }))
}

/// A model: what is known of it, and what it tells once it is loaded.
#[utoipa::path(get, path = "/api/v1/model-info", operation_id = "get_model_info", tag = "chat",
    params(ModelInfoQuery), responses(
        (status = 200, body = ModelInfo),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
))]
pub(crate) async fn info(
    State(app): State<App>,
    Query(query): Query<ModelInfoQuery>,
) -> Result<Json<ModelInfo>, ApiError> {
    let id = app.chat_model(query.model).await?;
    let entry = app.pool.find(&id).await?;
    let state = app.pool.status().into_iter().find(|model| model.id == id).map(|model| model.state);
    let loaded = app.pool.loaded(&id).map(|model| {
        let template = model.text.template(false).ok().map(|template| template.features().clone());
        let with_tools = model.text.template(true).ok().map(|template| template.features().tools);
        let defaults = entry.config.defaults.clone().or(&model.text.defaults);
        LoadedModelInfo {
            context_length: model.context_length(),
            vocab_size: model.text.tokenizer.vocab_size(),
            chat: template.is_some(),
            system_prompt: template.is_some_and(|features| features.system),
            tools: with_tools.unwrap_or(false),
            sampling: SamplingSettings {
                temperature: defaults.temperature,
                top_p: defaults.top_p,
                top_k: defaults.top_k.and_then(|k| i64::try_from(k).ok()),
                min_p: defaults.min_p,
                repetition_penalty: defaults.repetition_penalty,
                presence_penalty: defaults.presence_penalty,
                frequency_penalty: defaults.frequency_penalty,
                max_tokens: defaults.max_tokens.map(|most| most as u64),
                ..SamplingSettings::default()
            },
            loaded_at: millis(model.loaded_at),
        }
    });
    Ok(Json(ModelInfo {
        id,
        aliases: entry.config.aliases.clone(),
        path: entry.path.display().to_string(),
        size_bytes: entry.size_bytes,
        state,
        loaded,
    }))
}

/// Whether answers can be had, which models are in memory, and how the file of conversations is.
#[utoipa::path(get, path = "/api/v1/health", operation_id = "get_chat_health", tag = "chat", responses(
    (status = 200, description = "Answers can be had", body = ChatHealth),
    (status = 503, description = "Answers would fail, and why", body = ChatHealth),
))]
pub(crate) async fn health(State(app): State<App>) -> (StatusCode, Json<ChatHealth>) {
    let (code, health) = match app.monitor.health() {
        Ok(health) => (StatusCode::OK, health),
        Err(health) => (StatusCode::SERVICE_UNAVAILABLE, health),
    };
    let loaded_models = app.pool.all_loaded().iter().map(|model| model.id.clone()).collect();
    let conversations = app.chats.health().await;
    let (status, error, version) = (health.status, health.error, health.version);
    (code, Json(ChatHealth { status, error, version, loaded_models, conversations }))
}

fn model(app: &App, entry: &Entry) -> ChatModel {
    let loaded = app.pool.loaded(&entry.id);
    ChatModel {
        id: entry.id.clone(),
        aliases: entry.config.aliases.clone(),
        size_bytes: entry.size_bytes,
        loaded: loaded.is_some(),
        context_length: loaded.map(|model| model.context_length()),
    }
}
