//! Administration of the models in memory: what loads, unloads and keeps them, and which one answers by default.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long a model stays in memory unused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum KeepAlive {
    /// Seconds; 0 unloads it as soon as nobody uses it, -1 never.
    Seconds(i64),
    /// With a unit, or `never`.
    #[schema(example = "5m")]
    Text(String),
}

/// Body of `POST /api/v1/load-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoadModelRequest {
    /// Its id or another of its names.
    pub model: String,
    /// How long it stays unused, this time; absent leaves it as configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<KeepAlive>,
}

/// What happens to answers that a model is still giving when it is to be unloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InUse {
    /// They go on, and the model stays: 409 `conflict`.
    #[default]
    Refuse,
    /// They go on, and the model is unloaded as soon as nobody uses it.
    Wait,
    /// They end with an error.
    Cancel,
}

/// Body of `POST /api/v1/unload-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnloadModelRequest {
    /// Its id or another of its names.
    pub model: String,
    /// What happens if it is in use; `refuse` if absent.
    #[serde(default)]
    pub in_use: InUse,
}

/// Answer of `POST /api/v1/unload-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnloadedModel {
    /// Its id.
    pub model: String,
    /// `false` where it was not in memory to begin with.
    pub unloaded: bool,
}

/// Body of `POST /api/v1/pin-model` and `POST /api/v1/unpin-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinModelRequest {
    /// Its id or another of its names.
    pub model: String,
}

/// Answer of `POST /api/v1/pin-model` and `POST /api/v1/unpin-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinnedModel {
    /// Its id.
    pub model: String,
    /// Whether it now stays in memory once it is there.
    pub pinned: bool,
}

/// Body of `PUT /api/default-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DefaultModelRequest {
    /// Its id or another of its names; null forgets the choice.
    pub model: Option<String>,
}

/// Why a model is the default. The first of these that there is wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultSource {
    /// `model` in the configuration, or the flag.
    Configured,
    /// The user chose it by `PUT /api/default-model`.
    Chosen,
    /// There is no other.
    Only,
    /// It was installed last.
    Newest,
}

/// Answer of `GET` and `PUT /api/default-model`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DefaultModel {
    /// The model that answers requests which name none; null where there is none at all.
    pub model: Option<String>,
    /// Why it does.
    pub source: Option<DefaultSource>,
}

/// Answer of `POST /v1/admin/reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Models that requests may name now.
    pub models: usize,
    /// Of these, models that they could not name before.
    pub added: Vec<String>,
    /// Models that they can no longer name.
    pub removed: Vec<String>,
    /// Models in memory whose settings or files have changed: they are unloaded as soon as nobody uses them, and loaded
    /// anew when somebody does.
    pub outdated: Vec<String>,
}

/// Answer of `POST /v1/admin/restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restarted {
    /// Models that were in memory, and are being loaded again.
    pub loading: Vec<String>,
    /// Answers that did not end in time and were ended with an error.
    pub cancelled: usize,
}
