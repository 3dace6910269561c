//! `/api/settings`: what the server was told, and changes to `config.toml`.

use axum::Json;
use axum::extract::State;
use perch_protocol::{ErrorEnvelope, Settings, SettingsPatch};

use crate::app::App;
use crate::error::ApiError;
use crate::extract::Body;

/// Every setting with its source, and the API keys without the keys themselves.
#[utoipa::path(get, path = "/api/settings", operation_id = "get_settings", tag = "server", responses(
    (status = 200, body = Settings),
    (status = 409, description = "config.toml is damaged", body = ErrorEnvelope),
))]
pub(crate) async fn get(State(app): State<App>) -> Result<Json<Settings>, ApiError> {
    app.settings.read().await.map(Json)
}

/// Changes `config.toml`; comments in it stay. Keys and `usage` count at once, other settings from the next start on.
#[utoipa::path(patch, path = "/api/settings", operation_id = "change_settings", tag = "server",
    request_body = SettingsPatch,
    responses(
        (status = 200, description = "Everything, as it is now", body = Settings),
        (status = 400, description = "A value that no start would take", body = ErrorEnvelope),
        (status = 409, description = "A variable or a flag has the last word", body = ErrorEnvelope),
    ))]
pub(crate) async fn change(
    State(app): State<App>,
    Body(patch): Body<SettingsPatch>,
) -> Result<Json<Settings>, ApiError> {
    app.settings.change(patch).await.map(Json)
}
