//! `/api/settings`: what the server was told, where each value comes from, and changes to `config.toml`.
//!
//! API keys are never shown: a key has a name, scopes and an id that is made from its digest.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Where a value comes from. Later ones win.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SettingSource {
    /// Nobody said anything.
    #[default]
    Default,
    /// `config.toml`.
    File,
    /// A `PERCH_*` variable.
    Environment,
    /// A flag of the command line.
    Flag,
}

/// Answer of `GET` and `PATCH /api/settings`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Settings {
    /// The file that changes are written to.
    pub config_file: String,
    /// Perch's own folder.
    pub data_dir: String,
    /// Every setting, by its key in `config.toml`.
    pub settings: Vec<Setting>,
    /// The API keys, without the keys themselves. None means that nobody needs one.
    pub keys: Vec<ApiKeyInfo>,
    /// Whether something was changed that only counts after a restart.
    pub restart_needed: bool,
    /// Keys that this change made, each shown here and never again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created_keys: Vec<CreatedKey>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its key in `config.toml`.
    pub key: String,
    /// What will count at the next start; null leaves it to Perch.
    pub value: Value,
    /// What counts if nobody says anything.
    pub default: Value,
    /// Where `value` comes from.
    pub source: SettingSource,
    /// The variable that sets it, whether or not it does; some have none.
    pub variable: Option<String>,
    /// Whether the running server still works with another value.
    pub restart_needed: bool,
}

/// An API key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyInfo {
    /// Names it in `remove_keys`.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// What it is good for: `inference`, `admin`.
    pub scopes: Vec<String>,
    /// Where it comes from; only keys of the file can be removed here.
    pub source: SettingSource,
}

/// Body of `PATCH /api/settings`. What is absent stays as it is; all of it is done or nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct SettingsPatch {
    /// New values by key; null removes a key from the file.
    pub settings: Map<String, Value>,
    /// Keys to make. They count at once.
    pub add_keys: Vec<NewKey>,
    /// Ids of keys to remove. They stop working at once.
    pub remove_keys: Vec<String>,
}

/// A key to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewKey {
    /// Whose it is.
    pub name: String,
    /// What it is good for: `inference`, `admin`.
    pub scopes: Vec<String>,
}

/// A key that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// Whose it is.
    pub name: String,
    /// The key itself; only its digest is kept.
    pub key: String,
}

/// Says everything but the secret.
impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("name", &self.name).finish_non_exhaustive()
    }
}
