//! `GET /v1/models` and `GET /v1/models/{id}`. Ids contain slashes: all of the rest of the path is the id.

use axum::Json;
use axum::extract::{Path, State};
use perch_protocol::ErrorEnvelope;
use perch_protocol::openai::{Model, ModelList};

use crate::app::App;
use crate::error::ApiError;
use crate::pool::Entry;

/// The models on this machine. Any of them is loaded when a request names it.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "openai", responses(
    (status = 200, body = ModelList),
))]
pub(crate) async fn list(State(app): State<App>) -> Json<ModelList> {
    let entries = app.pool.list().await;
    let data = entries.iter().map(|entry| model(&app, entry)).collect();
    Json(ModelList { object: "list".to_owned(), data })
}

/// One model.
#[utoipa::path(get, path = "/v1/models/{id}", operation_id = "get_model", tag = "openai",
    params(("id" = String, Path, description = "The model's id, slashes as they are")),
    responses(
        (status = 200, body = Model),
        (status = 404, description = "`model_not_found`", body = ErrorEnvelope),
    ),
)]
pub(crate) async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Model>, ApiError> {
    let entry = app.pool.find(&id).await?;
    Ok(Json(model(&app, &entry)))
}

fn model(app: &App, entry: &Entry) -> Model {
    let loaded = app.pool.loaded(&entry.id);
    Model {
        id: entry.id.clone(),
        object: "model".to_owned(),
        created: entry.created,
        owned_by: match entry.built_in {
            Some(_) => "perch".to_owned(),
            None => entry.id.split_once('/').map_or("local", |(owner, _)| owner).to_owned(),
        },
        description: entry.built_in.map(|model| model.description.to_owned()),
        loaded: loaded.is_some(),
        context_length: loaded.map(|model| model.context_length()),
        aliases: entry.config.aliases.clone(),
    }
}
