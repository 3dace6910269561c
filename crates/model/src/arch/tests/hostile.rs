//! Configs that lie: every number of every golden is replaced by what a hostile or careless hand might write.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{edited, golden, golden_gguf, hf, names, of_gguf};
use crate::ModelError;
use crate::gguf::Value;

/// Every path to a value that is no object, outermost first.
fn leaves(value: &serde_json::Value, path: &str, out: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            object.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), out));
        }
        serde_json::Value::Array(items) if !items.is_empty() => {
            out.push(path.to_owned());
            leaves(&items[0], &format!("{path}/0"), out);
        }
        _ => out.push(path.to_owned()),
    }
}

#[test]
fn no_value_of_a_config_makes_a_panic_or_a_long_wait() {
    let poisons = [
        json!(0),
        json!(-1),
        json!(1),
        json!(3),
        json!(1e-320),
        json!(1e308),
        json!(u64::MAX),
        json!(1u64 << 32),
        json!("x"),
        json!([]),
        json!({}),
        json!(true),
        json!(null),
    ];
    let (start, mut refused, mut taken) = (Instant::now(), 0, 0);
    for name in names() {
        let (config, tensors) = golden(&name);
        let mut paths = Vec::new();
        leaves(&config, "", &mut paths);
        for path in paths {
            for poison in &poisons {
                let mut config = config.clone();
                *config.pointer_mut(&path).unwrap() = poison.clone();
                match hf(&config, &tensors) {
                    // What is taken must be a model that these tensors bear out.
                    Ok(spec) => taken += spec.validate(&tensors).map(|()| 1).unwrap_or(0),
                    Err(error) => {
                        refused += 1;
                        assert!(error.to_string().len() < 2000, "{name} {path}: {error}");
                    }
                }
            }
        }
    }
    assert!(refused > 2000 && taken > 2000, "{refused} refused, {taken} taken");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn no_value_of_gguf_metadata_makes_a_panic() {
    let (mut refused, mut taken) = (0, 0);
    for name in names() {
        if !super::folder(&name).join("model.gguf").exists() {
            continue;
        }
        let (metadata, tensors) = golden_gguf(&name);
        let architecture = metadata.architecture().unwrap().to_owned();
        for key in metadata.keys().filter(|key| key.starts_with(&architecture)) {
            let poisons: [Value; 9] = [
                0u32.into(),
                3u32.into(),
                u32::MAX.into(),
                u64::MAX.into(),
                (-1i32).into(),
                f32::NAN.into(),
                f32::MAX.into(),
                "x".into(),
                [1u32, 2].as_slice().into(),
            ];
            for poison in poisons {
                let metadata = edited(&metadata, &[(key, poison)]);
                match of_gguf(&metadata, &tensors).and_then(|spec| spec.validate(&tensors)) {
                    Ok(()) => taken += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(refused > 500 && taken > 100, "{refused} refused, {taken} taken");
}

#[test]
fn counts_that_the_tensors_do_not_bear_out_are_refused_before_they_cost_anything() {
    let (config, tensors) = golden("qwen3-moe");
    let with = |key: &str, value: u64| {
        let mut config = config.clone();
        config[key] = value.into();
        hf(&config, &tensors)
    };
    for (key, value) in [("num_hidden_layers", 1024), ("num_experts", 4096), ("hidden_size", 1 << 20)] {
        let error = with(key, value).unwrap_err();
        assert!(matches!(error, ModelError::InvalidFile { .. }), "{key}: {error}");
    }
    for (key, value) in [("num_hidden_layers", 1025), ("num_experts", 4097), ("hidden_size", 1 << 21)] {
        assert!(with(key, value).unwrap_err().to_string().contains(key), "{key}");
    }
}

#[test]
fn an_error_names_the_file_the_tensor_and_both_shapes() {
    let (mut config, tensors) = golden("llama");
    config["intermediate_size"] = 65.into();
    let error = hf(&config, &tensors).unwrap_err().to_string();
    for part in ["config.json", "model.layers.0.mlp.gate_proj.weight", "[64, 32]", "[65, 32]"] {
        assert!(error.contains(part), "{error}");
    }
}
