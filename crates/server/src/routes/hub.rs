//! `/hub/…`: what there is on the Hugging Face hub, and which of it suits this machine. Thin over [`Advisor`].
//!
//! [`Advisor`]: crate::hub::Advisor

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use perch_hub::remote::RepoId;
use perch_protocol::{
    ErrorEnvelope, GgufProviderList, HubModelDetails, HubModelList, HubSearchQuery, PopularList,
};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Query;

/// The routes.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/hub/search", get(search))
        .route("/hub/popular", get(popular))
        .route("/hub/model/{author}/{name}", get(model))
        .route("/hub/model/{author}/{name}/gguf-providers", get(gguf_providers))
}

/// Models on the hub, by words, author, task and format. A page at a time.
#[utoipa::path(get, path = "/hub/search", operation_id = "search_hub", tag = "hub", params(HubSearchQuery), responses(
    (status = 200, body = HubModelList),
    (status = 409, description = "Offline: HF_HUB_OFFLINE is set", body = ErrorEnvelope),
    (status = 429, description = "The hub has had enough requests for now", body = ErrorEnvelope),
    (status = 502, description = "The hub cannot be reached or fails", body = ErrorEnvelope),
))]
pub(crate) async fn search(
    State(app): State<App>,
    Query(query): Query<HubSearchQuery>,
) -> Result<Json<HubModelList>, ApiError> {
    if query.limit.is_some_and(|limit| !(1..=100).contains(&limit)) {
        return Err(ApiError::invalid("limit", "`limit` must be 1 to 100"));
    }
    Ok(Json(app.remote.advisor()?.search(&query).await?))
}

/// Well-known models that this version runs, small to large. Answers offline as well.
#[utoipa::path(get, path = "/hub/popular", operation_id = "list_popular_models", tag = "hub", responses(
    (status = 200, body = PopularList),
))]
pub(crate) async fn popular(State(app): State<App>) -> Result<Json<PopularList>, ApiError> {
    Ok(Json(app.remote.advisor()?.popular().await))
}

/// One model: its card, files, licence, what can be downloaded, whether it runs, and the memory that it will need.
#[utoipa::path(get, path = "/hub/model/{author}/{name}", operation_id = "get_hub_model", tag = "hub",
    params(("author" = String, Path), ("name" = String, Path)),
    responses(
        (status = 200, body = HubModelDetails),
        (status = 403, description = "Gated, and the token may not see it", body = ErrorEnvelope),
        (status = 404, description = "There is no such model, or it is private", body = ErrorEnvelope),
        (status = 502, description = "The hub cannot be reached or fails", body = ErrorEnvelope),
    ))]
pub(crate) async fn model(
    State(app): State<App>,
    Path((author, name)): Path<(String, String)>,
) -> Result<Json<HubModelDetails>, ApiError> {
    Ok(Json(app.remote.advisor()?.details(&repo(&author, &name)?).await?))
}

/// Repositories that carry GGUF of a model, best first, with what each score is made of.
#[utoipa::path(get, path = "/hub/model/{author}/{name}/gguf-providers", operation_id = "list_gguf_providers", tag = "hub",
    params(("author" = String, Path), ("name" = String, Path)),
    responses(
        (status = 200, body = GgufProviderList),
        (status = 502, description = "The hub cannot be reached or fails", body = ErrorEnvelope),
    ))]
pub(crate) async fn gguf_providers(
    State(app): State<App>,
    Path((author, name)): Path<(String, String)>,
) -> Result<Json<GgufProviderList>, ApiError> {
    Ok(Json(app.remote.advisor()?.gguf_providers(&repo(&author, &name)?).await?))
}

fn repo(author: &str, name: &str) -> Result<RepoId, ApiError> {
    RepoId::new(&format!("{author}/{name}")).map_err(|error| ApiError::invalid("name", error.to_string()))
}
