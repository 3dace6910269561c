//! Changes the text of `config.toml` and nothing in it that was not asked for: comments and order stay.

use perch_protocol::{CreatedKey, ErrorCode, NewKey, SettingsPatch};
use serde::Deserialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};
use uuid::Uuid;

use crate::config::Layer;
use crate::error::ApiError;
use crate::security::{KeyConfig, Scope};

/// A text, changed.
pub(super) struct Edited {
    pub(super) text: String,
    pub(super) created: Vec<CreatedKey>,
}

/// `text`, changed as `patch` says. `said` is what `text` says.
///
/// # Errors
/// `invalid_value`, naming the setting or key that cannot be.
pub(super) fn edited(text: &str, said: &Layer, patch: &SettingsPatch) -> Result<Edited, ApiError> {
    let mut document: DocumentMut = text.parse().map_err(|error| {
        ApiError::new(ErrorCode::Conflict, format!("config.toml cannot be read; correct it first: {error}"))
    })?;
    for (key, json) in &patch.settings {
        check(key, json)?;
        set(document.as_table_mut(), key, json)?;
    }
    remove_keys(&mut document, said, &patch.remove_keys)?;
    let mut created = Vec::new();
    for (position, new) in patch.add_keys.iter().enumerate() {
        created.push(add_key(&mut document, new, position)?);
    }
    Ok(Edited { text: document.to_string(), created })
}

/// Checks one setting by itself, so that an error names it.
fn check(key: &str, json: &Json) -> Result<(), ApiError> {
    let param = format!("settings.{key}");
    match key {
        "api_key" | "keys" => {
            return Err(ApiError::invalid(param, "keys are changed with `add_keys` and `remove_keys`"));
        }
        "models" => return Err(ApiError::invalid(param, "settings of one model are not changed here")),
        _ => {}
    }
    let mut value = if json.is_null() { Json::Null } else { json.clone() };
    for part in key.rsplit('.') {
        value = Json::Object([(part.to_owned(), value)].into_iter().collect());
    }
    let read = Layer::deserialize(&value).map(|_| ());
    // Null stands for absence, which some values cannot be read from; the key has to exist all the same.
    match read {
        Err(error) if !json.is_null() || error.to_string().contains("unknown field") => {
            Err(ApiError::invalid(param, format!("`{key}`: {error}")))
        }
        _ => Ok(()),
    }
}

/// Sets or removes a key, in a table if it is written `table.key`.
fn set(table: &mut dyn TableLike, key: &str, json: &Json) -> Result<(), ApiError> {
    if let Some((outer, inner)) = key.split_once('.') {
        if json.is_null() && table.get(outer).is_none() {
            return Ok(());
        }
        let item = table.entry(outer).or_insert_with(|| Item::Table(Table::new()));
        let inside = item.as_table_like_mut();
        let inside = inside.ok_or_else(|| ApiError::invalid(key, format!("`{outer}` is no table")))?;
        return set(inside, inner, json);
    }
    if json.is_null() {
        table.remove(key);
        return Ok(());
    }
    let mut value = toml_value(json)
        .ok_or_else(|| ApiError::invalid(key, format!("`{key}` cannot be written as a value of TOML")))?;
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            // What stands around the value is the comment beside it.
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        _ => {
            table.insert(key, Item::Value(value));
        }
    }
    Ok(())
}

fn toml_value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Bool(value) => (*value).into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(items) => Value::Array(items.iter().map(toml_value).collect::<Option<Array>>()?),
        Json::Null | Json::Object(_) => return None,
    })
}

fn add_key(document: &mut DocumentMut, new: &NewKey, position: usize) -> Result<CreatedKey, ApiError> {
    let name = new.name.trim();
    if name.is_empty() || name.chars().count() > 60 || name.chars().any(char::is_control) {
        let message = "name the key in 1 to 60 characters, after what will use it";
        return Err(ApiError::invalid(format!("add_keys.{position}.name"), message));
    }
    let known = |scope: &String| [Scope::Inference, Scope::Admin].iter().any(|s| s.to_string() == *scope);
    if new.scopes.is_empty() || !new.scopes.iter().all(known) {
        let message = "a key needs at least one of the scopes `inference` and `admin`";
        return Err(ApiError::invalid(format!("add_keys.{position}.scopes"), message));
    }
    let key = format!("sk-perch-{}", Uuid::new_v4().simple());
    let digest: String = Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let scopes = Value::Array(new.scopes.iter().map(String::as_str).collect());
    let fields = [("name", name.into()), ("sha256", digest.into()), ("scopes", scopes)];
    match document.entry("keys").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new())) {
        Item::ArrayOfTables(tables) => {
            let mut table = Table::new();
            for (name, value) in fields {
                table.insert(name, Item::Value(value));
            }
            tables.push(table);
        }
        Item::Value(Value::Array(array)) => array.push(fields.into_iter().collect::<InlineTable>()),
        _ => {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                "`keys` in config.toml is no list; correct it first",
            ));
        }
    }
    Ok(CreatedKey { name: name.to_owned(), key })
}

/// Removes the keys with these ids. Places are those of the list as it was read, so that the last goes first.
fn remove_keys(document: &mut DocumentMut, said: &Layer, ids: &[String]) -> Result<(), ApiError> {
    let keys = said.keys.as_deref().unwrap_or_default();
    let lone = said.api_key.as_ref().and_then(|key| KeyConfig::all_scopes("api_key", key.as_str()).id());
    let known =
        |id: &String| lone.as_ref() == Some(id) || keys.iter().any(|key| key.id().as_ref() == Some(id));
    if !ids.iter().all(known) {
        let message =
            "there is no such key in config.toml; a key from the environment or a flag is removed there";
        return Err(ApiError::new(ErrorCode::NotFound, message).with_param("remove_keys"));
    }
    if lone.is_some_and(|id| ids.contains(&id)) {
        document.remove("api_key");
    }
    for (position, key) in keys.iter().enumerate().rev() {
        if !key.id().is_some_and(|id| ids.contains(&id)) {
            continue;
        }
        match document.get_mut("keys") {
            Some(Item::ArrayOfTables(tables)) if position < tables.len() => {
                tables.remove(position);
            }
            Some(Item::Value(Value::Array(array))) if position < array.len() => {
                array.remove(position);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = "# my settings\nport = 9000 # not 8080\n\n# the big disk\nmodels_dirs = [\"/models\"]\n\n# who may ask\n[[keys]]\nname = \"editor\"\nkey = \"secret\"\n";

    fn edit(text: &str, patch: serde_json::Value) -> Result<Edited, ApiError> {
        let patch: SettingsPatch = serde_json::from_value(patch).unwrap();
        edited(text, &toml::from_str(text).unwrap(), &patch)
    }

    #[test]
    fn comments_and_order_survive_a_change() {
        let done =
            edit(FILE, json!({"settings": {"port": 9001, "idle_ttl": "1h", "models_dirs": null}})).unwrap();
        assert_eq!(
            done.text,
            "# my settings\nport = 9001 # not 8080\nidle_ttl = \"1h\"\n\n# who may ask\n[[keys]]\nname = \"editor\"\nkey = \"secret\"\n"
        );
    }

    #[test]
    fn a_value_that_no_start_would_take_names_its_key() {
        for (key, value) in
            [("port", json!("x")), ("port", json!(70000)), ("idle_ttl", json!("soon")), ("prot", json!(1))]
        {
            let error = edit(FILE, json!({"settings": {key: value}})).err().expect(key);
            assert_eq!(error.code, ErrorCode::InvalidValue);
            assert!(error.message.contains(key), "{error}");
        }
        assert!(edit(FILE, json!({"settings": {"prot": null}})).is_err());
        assert!(edit(FILE, json!({"settings": {"api_key": "x"}})).is_err());
    }

    #[test]
    fn a_key_is_kept_as_its_digest_and_can_be_removed() {
        let new = json!({"add_keys": [{"name": "laptop", "scopes": ["inference", "admin"]}]});
        let done = edit(FILE, new).unwrap();
        let [created] = &done.created[..] else { panic!() };
        assert!(created.key.len() > 30 && !done.text.contains(&created.key));
        let said: Layer = toml::from_str(&done.text).unwrap();
        let keys = said.keys.unwrap();
        assert_eq!(keys[1].id(), KeyConfig::all_scopes("", created.key.as_str()).id());
        let gone = edit(&done.text, json!({"remove_keys": [keys[1].id()]})).unwrap();
        assert_eq!(gone.text, FILE);
        assert!(edit(FILE, json!({"remove_keys": ["00000000"]})).is_err());
        assert!(edit(FILE, json!({"add_keys": [{"name": "x", "scopes": ["all"]}]})).is_err());
    }
}
