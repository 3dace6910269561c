//! Opening a model to see what it is, without loading it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use perch_hub::{Checked, Facts};
use perch_model::{Checkpoint, ModelError, ModelSpec, SpecOptions};
use perch_protocol::{ErrorCode, TensorTypes};
use serde_json::Value;

use crate::error::ApiError;

/// Longest part of a README that is looked at for a licence.
const MAX_README: u64 = 16 << 10;
/// Longest tokenizer_config.json that is read.
const MAX_JSON: u64 = 8 << 20;
/// The kinds of GGUF vocabularies that are read.
const VOCABULARIES: [&str; 4] = ["llama", "gpt2", "bert", "t5"];

/// What a model is. One that cannot be opened or run has a problem, and whatever could be read of it.
pub(super) fn inspect(path: &Path) -> Facts {
    match Checkpoint::open(path) {
        Ok(checkpoint) => inspect_open(&checkpoint, path),
        Err(error) => Facts { problem: Some(problem(error)), ..Facts::default() },
    }
}

/// The same for a model that is open. A README beside `path` may name its licence.
pub(super) fn inspect_open(checkpoint: &Checkpoint, path: &Path) -> Facts {
    let facts = Facts {
        architecture: checkpoint.architecture().map(str::to_owned),
        parameters: Some(checkpoint.parameters()),
        quantization: Some(checkpoint.quantization()).filter(|text| !text.is_empty()),
        context_length: checkpoint.context_length(),
        license: license(checkpoint, path),
        chat_template: has_template(checkpoint),
        weight_bytes: checkpoint.weights_bytes(),
        ..Facts::default()
    };
    match checkpoint.spec(&SpecOptions::default()).and_then(|spec| readable(checkpoint).map(|()| spec)) {
        Ok(spec) => Facts { kv_bytes_per_token: kv_bytes(&spec), ..facts },
        Err(error) => Facts { problem: Some(problem(error)), ..facts },
    }
}

/// Opens a model to import it: it must be one that can be run.
pub(super) fn check(path: &Path) -> Result<Checked, String> {
    let checkpoint = Checkpoint::open(path).map_err(|error| error.to_string())?;
    checkpoint.spec(&SpecOptions::default()).map_err(|error| error.to_string())?;
    readable(&checkpoint).map_err(|error| error.to_string())?;
    Ok(Checked { context_length: checkpoint.context_length() })
}

/// What its files say, without the vocabulary and the template, and its tensors by type.
pub(super) fn details(path: &Path) -> (std::collections::BTreeMap<String, Value>, Vec<TensorTypes>) {
    Checkpoint::open(path).map(|checkpoint| details_open(&checkpoint)).unwrap_or_default()
}

/// The same for a model that is open.
pub(super) fn details_open(
    checkpoint: &Checkpoint,
) -> (std::collections::BTreeMap<String, Value>, Vec<TensorTypes>) {
    let plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_) | Value::Null);
    let metadata = match (checkpoint.gguf_metadata(), checkpoint.config()) {
        (Some(metadata), _) => metadata
            .keys()
            .filter(|key| !key.starts_with("tokenizer.chat_template"))
            .filter_map(|key| Some((key.to_owned(), gguf_value(metadata, key)?)))
            .collect(),
        (None, Some(Value::Object(config))) => {
            config.iter().filter(|(_, v)| plain(v)).map(|(k, v)| (k.clone(), v.clone())).collect()
        }
        _ => Default::default(),
    };
    let mut tensors: Vec<TensorTypes> = Vec::new();
    for stored in checkpoint.stored() {
        let at = tensors.iter().position(|types| types.kind == stored.kind).unwrap_or_else(|| {
            tensors.push(TensorTypes { kind: stored.kind.to_owned(), count: 0, parameters: 0, bytes: 0 });
            tensors.len() - 1
        });
        tensors[at].count += 1;
        tensors[at].parameters += stored.elements;
        tensors[at].bytes += stored.bytes;
    }
    tensors.sort_by_key(|types| std::cmp::Reverse(types.bytes));
    (metadata, tensors)
}

fn gguf_value(metadata: &perch_model::gguf::Metadata, key: &str) -> Option<Value> {
    if let Some(text) = metadata.get_str(key) {
        return Some(text.chars().take(500).collect::<String>().into());
    }
    let number = metadata.get_u64(key).map(Value::from);
    let number = number.or_else(|| metadata.get_bool(key).map(Value::from));
    number.or_else(|| {
        metadata.get_f32(key).and_then(|number| number.to_string().parse::<f64>().ok()).map(Value::from)
    })
}

fn problem(error: ModelError) -> (String, String) {
    let error = ApiError::from(error);
    (error.code.as_str().to_owned(), error.message)
}

/// Whether there is a tokenizer of a kind that is read. Reading it whole would take a while.
fn readable(checkpoint: &Checkpoint) -> Result<(), ModelError> {
    if let Some(metadata) = checkpoint.gguf_metadata() {
        return match metadata.get_str("tokenizer.ggml.model") {
            Some(kind) if VOCABULARIES.contains(&kind) => Ok(()),
            Some(kind) => Err(ModelError::Unsupported(format!(
                "its tokenizer is of the kind {kind:?}, which is not supported"
            ))),
            None => Err(ModelError::Unsupported("it has no tokenizer; convert it again with one".to_owned())),
        };
    }
    let there = ["tokenizer.json", "tokenizer.model"].iter().any(|name| checkpoint.path_of(name).is_some());
    there.then_some(()).ok_or_else(|| {
        let message = "its folder has neither tokenizer.json nor tokenizer.model; download it whole";
        ModelError::Unsupported(message.to_owned())
    })
}

fn kv_bytes(spec: &ModelSpec) -> u64 {
    let floats: usize = spec.layers.iter().map(|layer| layer.mixer.kv_width()).map(|(k, v)| k + v).sum();
    2 * floats as u64
}

fn has_template(checkpoint: &Checkpoint) -> bool {
    if let Some(metadata) = checkpoint.gguf_metadata() {
        return metadata.keys().any(|key| key.starts_with("tokenizer.chat_template"));
    }
    let in_config = || {
        let bytes = read(&checkpoint.path_of("tokenizer_config.json")?, MAX_JSON)?;
        let config: Value = serde_json::from_slice(&bytes).ok()?;
        config.get("chat_template").filter(|template| !template.is_null()).map(|_| ())
    };
    let files = ["chat_template.jinja", "chat_template.json"];
    files.iter().any(|name| checkpoint.path_of(name).is_some()) || in_config().is_some()
}

/// `general.license` of a GGUF file, or what the README beside the model says in its head.
fn license(checkpoint: &Checkpoint, path: &Path) -> Option<String> {
    let named = checkpoint.gguf_metadata().and_then(|metadata| metadata.get_str("general.license"));
    if let Some(name) = named.filter(|name| !name.is_empty()) {
        return Some(name.chars().take(100).collect());
    }
    let folder = if path.is_dir() { path } else { path.parent()? };
    let bytes = read(&folder.join("README.md"), MAX_README)?;
    let text = String::from_utf8_lossy(&bytes);
    let head = text.strip_prefix("---")?.split("\n---").next()?;
    let value = |key: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let value = line.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.chars().take(100).collect::<String>())
    };
    // Licences that the hub has no name for are `other`, with a name of their own.
    value("license")
        .filter(|name| name != "other")
        .or_else(|| value("license_name"))
        .or_else(|| value("license"))
}

/// The beginning of a file.
fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The code of a model's problem, as the error codes spell it.
pub(super) fn code(name: &str) -> ErrorCode {
    ErrorCode::ALL.iter().copied().find(|code| code.as_str() == name).unwrap_or(ErrorCode::InvalidModelFile)
}
