//! What was said, by whom: every setting by its key, as the dashboard shows it.

use serde_json::{Map, Value};

use super::{Config, Layer, Lifetime};

/// What the environment and the flags said, each on its own. It stays when the file is read again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// The environment.
    pub env: Layer,
    /// The flags.
    pub flags: Layer,
}

impl Layer {
    /// Its values by key, those in tables as `table.key`. Keys and per-model settings are not among them.
    pub(crate) fn values(&self) -> Map<String, Value> {
        let mut values = Map::new();
        if let Ok(Value::Object(said)) = serde_json::to_value(self) {
            flatten("", said, &mut values);
        }
        values
    }

    /// The keys of all values there can be: those that `values` have, and those that nobody said anything about.
    pub(crate) fn names<'a>(values: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        if let Ok(Value::Object(all)) = serde_json::to_value(Self::default()) {
            names.extend(all.into_iter().map(|(key, _)| key));
        }
        for key in values.flat_map(|values| values.keys()) {
            // A table stands for its values.
            names.retain(|name| !key.starts_with(&format!("{name}.")));
            if !names.contains(key) {
                names.push(key.clone());
            }
        }
        names
    }

    /// What counts if nobody says anything. Keys without a default are absent.
    pub(crate) fn defaults() -> Self {
        let Config { host, port, http, pool, performance, max_downloads, .. } = Config::new("");
        Self {
            host: Some(host),
            port: Some(port),
            models_dirs: Some(Vec::new()),
            allowed_hosts: Some(Vec::new()),
            allowed_origins: Some(Vec::new()),
            max_models: Some(pool.max_models),
            performance: Some(performance),
            idle_ttl: Some(Lifetime(pool.idle_ttl)),
            load_timeout: Some(Lifetime(Some(pool.load_timeout))),
            queue_limit: Some(pool.queue_limit),
            max_sequences: Some(pool.max_sequences),
            max_batch_tokens: Some(pool.max_batch_tokens),
            max_body: Some(super::ByteSize(http.max_body_bytes)),
            max_connections: Some(http.max_connections),
            header_timeout: Some(Lifetime(Some(http.header_timeout))),
            chat: Some(super::chat::defaults()),
            usage: Some(super::usage::defaults()),
            max_downloads: Some(max_downloads),
            log: Some("info".to_owned()),
            log_format: Some("text".to_owned()),
            ..Self::default()
        }
    }
}

fn flatten(prefix: &str, table: Map<String, Value>, values: &mut Map<String, Value>) {
    for (key, value) in table {
        match value {
            Value::Object(inner) => flatten(&format!("{prefix}{key}."), inner, values),
            Value::Null => {}
            value => {
                values.insert(format!("{prefix}{key}"), value);
            }
        }
    }
}
