//! What `tokenizer_config.json` says about a tokenizer: the texts of its special tokens and whether it adds them.

use serde_json::Value;

/// `config[key]` where it is a token: a string, or an object with `content`.
pub(super) fn token<'a>(config: Option<&'a Value>, key: &str) -> Option<&'a str> {
    let value = config?.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// `config[key]` where it is a boolean.
pub(super) fn flag(config: Option<&Value>, key: &str) -> Option<bool> {
    config?.get(key)?.as_bool()
}
