//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Answer of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    /// The models on this machine, by id.
    pub data: Vec<Model>,
}

/// A model that requests may name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    /// What to put into `model`.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// When its files were written, in seconds since 1970; 0 for a model that is part of Perch.
    pub created: u64,
    /// Who published it: the part before the slash of a hub id, `perch` for a model that is part of Perch, else `local`.
    pub owned_by: String,
    /// What it is, for a model that is part of Perch: `built-in guide (demonstration)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether it is in memory now.
    pub loaded: bool,
    /// Longest sequence in tokens, known once the model has been loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// Other names that stand for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}
