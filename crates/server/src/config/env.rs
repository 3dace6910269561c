//! The `PERCH_*` variables: which there are, and how each becomes a key of a [`Layer`].

use serde::Deserialize;
use toml::{Table, Value};

use super::{ConfigError, Layer};

/// How a variable's text becomes a value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    /// `true` or `false`.
    Truth,
    /// Separated by commas.
    List,
    /// Separated as `PATH` is.
    Paths,
}

/// Every variable, besides [`DATA_DIR`], and its key.
const VARIABLES: &[(&str, &str, Kind)] = &[
    ("PERCH_HOST", "host", Kind::Text),
    ("PERCH_PORT", "port", Kind::Number),
    ("PERCH_MODELS_DIRS", "models_dirs", Kind::Paths),
    ("PERCH_MODEL", "model", Kind::Text),
    ("PERCH_MAX_MODELS", "max_models", Kind::Number),
    ("PERCH_BUILTIN", "builtin", Kind::Truth),
    ("PERCH_PERFORMANCE", "performance", Kind::Text),
    ("PERCH_THREADS", "threads", Kind::Number),
    ("PERCH_IDLE_TTL", "idle_ttl", Kind::Text),
    ("PERCH_LOAD_TIMEOUT", "load_timeout", Kind::Text),
    ("PERCH_MEMORY_LIMIT", "memory_limit", Kind::Text),
    ("PERCH_KV_BUDGET", "kv_budget", Kind::Text),
    ("PERCH_PREFIX_CACHE", "prefix_cache", Kind::Text),
    ("PERCH_CONTEXT", "context", Kind::Number),
    ("PERCH_QUANTIZE", "quantize", Kind::Text),
    ("PERCH_BACKEND", "backend", Kind::Text),
    ("PERCH_QUEUE_LIMIT", "queue_limit", Kind::Number),
    ("PERCH_MAX_SEQUENCES", "max_sequences", Kind::Number),
    ("PERCH_MAX_BATCH_TOKENS", "max_batch_tokens", Kind::Number),
    ("PERCH_CHAT_SYSTEM_PROMPT", "chat.system_prompt", Kind::Text),
    ("PERCH_CHAT_MAX_TURNS", "chat.max_turns", Kind::Number),
    ("PERCH_CHAT_AUTOSAVE", "chat.autosave", Kind::Truth),
    ("PERCH_USAGE_ENABLED", "usage.enabled", Kind::Truth),
    ("PERCH_USAGE_RETENTION_DAYS", "usage.retention_days", Kind::Number),
    ("PERCH_ALLOWED_HOSTS", "allowed_hosts", Kind::List),
    ("PERCH_ALLOWED_ORIGINS", "allowed_origins", Kind::List),
    ("PERCH_API_KEY", "api_key", Kind::Text),
    ("PERCH_MAX_BODY", "max_body", Kind::Text),
    ("PERCH_MAX_CONNECTIONS", "max_connections", Kind::Number),
    ("PERCH_HEADER_TIMEOUT", "header_timeout", Kind::Text),
    ("PERCH_MAX_DOWNLOADS", "max_downloads", Kind::Number),
    ("PERCH_DOWNLOAD_LIMIT", "download_limit", Kind::Text),
    ("PERCH_LOG", "log", Kind::Text),
    ("PERCH_LOG_FORMAT", "log_format", Kind::Text),
];

/// The variable that names the data directory, which has to be known before the file in it is read.
pub(super) const DATA_DIR: &str = "PERCH_DATA_DIR";

/// The variable that sets `key`.
pub(crate) fn variable(key: &str) -> Option<&'static str> {
    VARIABLES.iter().find(|(_, known, _)| *known == key).map(|(name, ..)| *name)
}

/// What the environment says. Variables without the prefix are not looked at; empty ones count as unset.
pub(super) fn layer(env: &[(String, String)]) -> Result<Layer, ConfigError> {
    let mut layer = Layer::default();
    for (name, text) in env {
        if !name.starts_with("PERCH_") || name == DATA_DIR || text.is_empty() {
            continue;
        }
        let fail = |message: String| ConfigError::Variable { name: name.clone(), message };
        let (_, key, kind) =
            VARIABLES.iter().find(|(known, ..)| known == name).ok_or_else(|| fail(unknown()))?;
        let value = match kind {
            Kind::Text => Value::String(text.clone()),
            Kind::Number => {
                Value::Integer(text.trim().parse().map_err(|_| fail(format!("`{text}` is no whole number")))?)
            }
            Kind::Truth => Value::Boolean(
                text.trim().parse().map_err(|_| fail(format!("`{text}` is neither true nor false")))?,
            ),
            Kind::List => strings(text.split(',').map(|item| item.trim().to_owned())),
            Kind::Paths => {
                strings(std::env::split_paths(text).map(|path| path.to_string_lossy().into_owned()))
            }
        };
        // `table.key` is a key in a table.
        let value = key
            .rsplit('.')
            .fold(value, |value, part| Value::Table(Table::from_iter([(part.to_owned(), value)])));
        let said = Layer::deserialize(value).map_err(|error| fail(error.message().to_owned()))?;
        layer = layer.overlaid(said);
    }
    Ok(layer)
}

fn unknown() -> String {
    let names: Vec<&str> = VARIABLES.iter().map(|(name, ..)| *name).collect();
    format!("there is no such setting; the variables are {DATA_DIR}, {}", names.join(", "))
}

fn strings(items: impl Iterator<Item = String>) -> Value {
    Value::Array(items.filter(|item| !item.is_empty()).map(Value::String).collect())
}
