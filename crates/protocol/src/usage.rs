//! `/v1/admin/usage`: how much was asked of which model, by day. Numbers alone: no prompt, no answer, no address.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What the rows of a report stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// Days, oldest first; days without a request have no row.
    #[default]
    Day,
    /// Models, the one with most requests first.
    Model,
}

/// What an export is written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageFormat {
    /// Comma-separated values, with a heading.
    #[default]
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// Query of `GET /v1/admin/usage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// How many days, today included: 1 to 3660; 30 if absent.
    pub days: Option<u32>,
    /// What the rows stand for: `day` (if absent) or `model`.
    #[param(inline)]
    pub by: Option<UsageBy>,
    /// Only requests that this model answered.
    pub model: Option<String>,
}

/// Query of `GET /v1/admin/usage/export`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageExportQuery {
    /// `csv` (if absent) or `parquet`.
    #[param(inline)]
    pub format: Option<UsageFormat>,
    /// How many days, today included; all that are kept if absent.
    pub days: Option<u32>,
}

/// Answer of `GET /v1/admin/usage`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// Whether requests are being counted now. What was counted before stays until it is erased.
    pub enabled: bool,
    /// How many days are kept.
    pub retention_days: u32,
    /// The first day of this report, `2026-05-31`, as the machine's clock has it.
    pub from: String,
    /// Its last day, which is today.
    pub to: String,
    /// The first day that anything is known of.
    pub since: Option<String>,
    /// All rows together.
    pub total: UsageRow,
    /// One for each day or model.
    pub rows: Vec<UsageRow>,
    /// Bytes that all of it takes on the disk.
    pub file_bytes: u64,
    /// Why nothing can be kept or read, and what to do.
    pub problem: Option<String>,
    /// Files that were found damaged and set aside. Erasing removes them too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged_files: Vec<String>,
}

/// What was asked on a day, of a model, or in all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageRow {
    /// Which day, `2026-05-31`; absent where several are added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// Which model; empty for requests that ended before one had taken them, absent where several are added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Requests that ended, however.
    pub requests: u64,
    /// Answered in full.
    pub completed: u64,
    /// Given up by the client.
    pub cancelled: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Of these, found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Milliseconds to the first token, of requests that got one.
    pub first_token_ms: Option<Percentiles>,
    /// Milliseconds in all, of requests that were answered in full.
    pub duration_ms: Option<Percentiles>,
    /// How often each error code was answered.
    pub errors: BTreeMap<String, u64>,
}

/// The time that so many in a hundred took at most. Right to within 3 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Percentiles {
    /// Half of them.
    pub p50: u64,
    /// 95 in a hundred.
    pub p95: u64,
    /// 99 in a hundred.
    pub p99: u64,
}

/// Answer of `DELETE /v1/admin/usage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageErased {
    /// Requests that were counted.
    pub requests: u64,
    /// Days that had any.
    pub days: u64,
}
