//! How much was asked of which model, by day: read, taken along, erased. Switched on and off as a setting.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use perch_protocol::*;
use perch_usage::{Span, UsageError, csv, parquet, told};

use crate::app::App;
use crate::config::usage::MAX_DAYS;
use crate::error::ApiError;
use crate::extract::Query;

/// Days of a report that does not say how many.
const DAYS: u32 = 30;

/// How much was asked, by day or by model. Only counted while the setting `usage.enabled` is true, which it is not unless
/// somebody said so; counts never leave this machine.
#[utoipa::path(get, path = "/v1/admin/usage", operation_id = "get_usage", tag = "server", params(UsageQuery), responses(
    (status = 200, body = UsageReport),
    (status = 400, description = "`invalid_value`", body = ErrorEnvelope),
))]
pub(crate) async fn report(
    State(app): State<App>,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageReport>, ApiError> {
    let days = checked(query.days)?.unwrap_or(DAYS);
    let by = query.by.unwrap_or_default();
    let read = app
        .usage
        .ask(move |ledger| ledger.map(|ledger| ledger.report(days, by, query.model.as_deref())).transpose());
    let said = match read.await {
        Err(UsageError::Closed) => return Err(ApiError::stopping()),
        said => said,
    };
    let folder = app.usage.folder().to_owned();
    let report = tokio::task::spawn_blocking(move || told(&folder, said, days)).await;
    let report = report.map_err(|_| failed())?;
    let (enabled, retention_days) = (app.usage.enabled(), app.usage.retention_days());
    Ok(Json(UsageReport { enabled, retention_days, ..report }))
}

/// All that was counted, a row for each model on each day, as a file.
#[utoipa::path(get, path = "/v1/admin/usage/export", operation_id = "export_usage", tag = "server",
    params(UsageExportQuery), responses(
        (status = 200, description = "With `format=parquet`, a Parquet file", body = String, content_type = "text/csv"),
        (status = 400, description = "`invalid_value`", body = ErrorEnvelope),
))]
pub(crate) async fn export(
    State(app): State<App>,
    Query(query): Query<UsageExportQuery>,
) -> Result<Response, ApiError> {
    let span = checked(query.days)?.map_or_else(Span::all, Span::last);
    let today = Span::last(1).to;
    let rows = app.usage.ask(move |ledger| ledger.map(|ledger| ledger.days_of_models(span)).transpose());
    let rows = rows.await?.unwrap_or_default();
    let (kind, end, write): (_, _, fn(&[UsageRow]) -> _) = match query.format.unwrap_or_default() {
        UsageFormat::Csv => ("text/csv; charset=utf-8", "csv", csv),
        UsageFormat::Parquet => ("application/vnd.apache.parquet", "parquet", parquet),
    };
    let bytes = tokio::task::spawn_blocking(move || write(&rows)).await.map_err(|_| failed())??;
    let name = format!("attachment; filename=\"perch-usage-{today}.{end}\"");
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response())
}

/// Erases all that was counted, also files that were found damaged. Counting goes on if it is switched on.
#[utoipa::path(delete, path = "/v1/admin/usage", operation_id = "erase_usage", tag = "server", responses(
    (status = 200, description = "How much there was", body = UsageErased),
))]
pub(crate) async fn erase(State(app): State<App>) -> Result<Json<UsageErased>, ApiError> {
    Ok(Json(app.usage.erase().await?))
}

fn checked(days: Option<u32>) -> Result<Option<u32>, ApiError> {
    match days {
        Some(days) if !(1..=MAX_DAYS).contains(&days) => {
            Err(ApiError::invalid("days", format!("days must be between 1 and {MAX_DAYS}")))
        }
        days => Ok(days),
    }
}

fn failed() -> ApiError {
    ApiError::new(ErrorCode::EngineError, "reading the usage failed; Perch's log says more")
}
