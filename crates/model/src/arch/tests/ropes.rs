//! Rotary tables, held against those that transformers computes from parameters of published checkpoints
//! (`tests/goldens/ropes.json`, made by `tests/oracles/make_rope_goldens.py`).

use serde_json::{Map, Value, json};

use super::super::{SpecOptions, from_hf};
use super::{asking, edited, golden, golden_gguf, one_head};
use crate::arch::from_gguf;
use crate::{ModelError, Rope, gguf};

const CASES: &str = include_str!("../../../tests/goldens/ropes.json");

fn assert_close(found: f32, expected: f64, what: &str) {
    assert!(
        (f64::from(found) - expected).abs() <= 1e-6 * expected.abs(),
        "{what}: {found} is not {expected}"
    );
}

/// The table of `case`, with its parameters put into a config by `place`.
fn table(case: &Value, place: impl FnOnce(&mut Map<String, Value>, Value)) -> Result<Rope, ModelError> {
    let size = |key: &str| case[key].as_u64().unwrap() as usize;
    let (mut config, tensors) = one_head(size("head_dim"), size("positions"));
    place(config.as_object_mut().unwrap(), case["parameters"].clone());
    let options = SpecOptions { context: case["context"].as_u64().map(|context| context as usize) };
    Ok(from_hf(&config, &tensors, &options)?.ropes.swap_remove(0))
}

fn new_way(config: &mut Map<String, Value>, parameters: Value) {
    config.insert("rope_parameters".into(), parameters);
}

fn new_way_by_layer(config: &mut Map<String, Value>, parameters: Value) {
    config.insert("rope_parameters".into(), json!({ "full_attention": parameters }));
}

fn old_way(config: &mut Map<String, Value>, mut parameters: Value) {
    let object = parameters.as_object_mut().unwrap();
    config.insert("rope_theta".into(), object.remove("rope_theta").unwrap());
    if let Some(partial) = object.remove("partial_rotary_factor") {
        config.insert("partial_rotary_factor".into(), partial);
    }
    let kind = object.remove("rope_type").unwrap();
    object.insert("type".into(), kind);
    config.insert("rope_scaling".into(), parameters);
}

/// As Phi-3 has it: the trained length beside the parameters, and another name for long-rope.
fn phi3_way(config: &mut Map<String, Value>, mut parameters: Value) {
    let object = parameters.as_object_mut().unwrap();
    if let Some(trained) = object.remove("original_max_position_embeddings") {
        config.insert("original_max_position_embeddings".into(), trained);
    }
    if object["rope_type"] == "longrope" {
        object.insert("rope_type".into(), "su".into());
    }
    old_way(config, parameters);
}

#[test]
fn every_scaling_gives_the_table_of_transformers_however_it_is_spelt() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 19);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let expected = case["inv_freq"].as_array().unwrap();
        let tables = [
            table(case, new_way),
            table(case, new_way_by_layer),
            table(case, old_way),
            table(case, phi3_way),
        ];
        for rope in tables {
            let rope = rope.unwrap();
            assert_eq!(rope.inv_freq.len(), expected.len(), "{name}");
            for (found, expected) in rope.inv_freq.iter().zip(expected) {
                assert_close(*found, expected.as_f64().unwrap(), name);
            }
            assert_close(rope.factor, case["factor"].as_f64().unwrap(), name);
        }
    }
}

#[test]
fn yarn_given_by_hand_lengthens_the_context() {
    let (mut config, tensors) = one_head(128, 32_768);
    config["rope_scaling"] =
        json!({ "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768 });
    let spec = from_hf(&config, &tensors, &SpecOptions::default()).unwrap();
    assert_eq!(spec.context_length, 131_072);
}

#[test]
fn dynamic_scaling_grows_with_the_context_that_is_asked_for() {
    let (mut config, tensors) = one_head(64, 4096);
    config["rope_scaling"] = json!({ "type": "dynamic", "factor": 2.0 });
    let spec = |options| from_hf(&config, &tensors, &options);
    let usual = spec(SpecOptions::default()).unwrap();
    assert_eq!(usual.context_length, 4096);
    let longer = spec(asking(8192)).unwrap();
    assert_eq!(longer.context_length, 8192);
    assert!(longer.ropes[0].inv_freq[31] < usual.ropes[0].inv_freq[31]);
    assert!(spec(asking(8193)).unwrap_err().to_string().contains("8192 tokens"));
}

#[test]
fn long_rope_takes_the_short_factors_while_the_context_is_the_trained_one() {
    let (config, tensors) = golden("phi3-short");
    let (metadata, gguf_tensors) = golden_gguf("phi3-short");
    let table = |context| from_hf(&config, &tensors, &asking(context)).unwrap().ropes.swap_remove(0);
    let scaling = &config["rope_scaling"];
    let factor = |key: &str, i: usize| scaling[key][i].as_f64().unwrap();
    assert_close(table(256).inv_freq[0], 1.0 / factor("short_factor", 0), "short");
    assert_close(table(257).inv_freq[0], 1.0 / factor("long_factor", 0), "long");
    assert_eq!(table(256).factor, table(257).factor);
    // The fake tensors have only ones for values, but not both of them have to be there.
    let mut tensors = gguf_tensors;
    tensors.0.remove("rope_factors_short.weight");
    assert!(from_gguf(&metadata, &tensors, &asking(257)).is_ok());
    assert!(from_gguf(&metadata, &tensors, &asking(256)).is_err());
}

#[test]
fn gguf_scaling_has_the_defaults_of_llama_cpp() {
    let (metadata, tensors) = golden_gguf("llama");
    let table = |values: &[(&str, gguf::Value)]| {
        let metadata = edited(&metadata, values);
        from_gguf(&metadata, &tensors, &SpecOptions::default()).map(|spec| spec.ropes[0].clone())
    };
    let plain = table(&[]).unwrap();
    assert_eq!(plain.inv_freq[0], 1.0);
    let halved = |rope: Rope| (rope.inv_freq[1] / plain.inv_freq[1] - 0.5).abs() < 1e-6;
    // A factor without a type is linear; the old key counts where the new one is missing; none means none.
    assert!(halved(table(&[("llama.rope.scaling.factor", 2.0f32.into())]).unwrap()));
    assert!(halved(table(&[("llama.rope.scale_linear", 2.0f32.into())]).unwrap()));
    let none = [("llama.rope.scaling.type", "none".into()), ("llama.rope.scaling.factor", 2.0f32.into())];
    assert_eq!(table(&none).unwrap(), plain);
    assert!(table(&[("llama.rope.scaling.type", "warp".into())]).is_err());
    assert!(table(&[("llama.rope.scaling.factor", (-2.0f32).into())]).is_err());
}

#[test]
fn impossible_parameters_are_refused_by_name() {
    let refused = |scaling: Value| {
        let (mut config, tensors) = one_head(64, 4096);
        config["rope_scaling"] = scaling;
        from_hf(&config, &tensors, &SpecOptions::default()).unwrap_err().to_string()
    };
    assert!(refused(json!({ "type": "linear" })).contains("\"factor\" is missing"));
    assert!(refused(json!({ "type": "linear", "factor": 0 })).contains("\"factor\""));
    assert!(refused(json!({ "type": "warp", "factor": 2 })).contains("\"warp\" is not supported"));
    let llama3 = json!({ "type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4 });
    assert!(refused(llama3).contains("high_freq_factor"));
    let short = json!({ "type": "longrope", "long_factor": [1.0], "short_factor": [1.0] });
    assert!(refused(short).contains("list of 32 numbers"));
    let zeros = vec![0.0; 32];
    let zeros = json!({ "type": "longrope", "long_factor": zeros, "short_factor": zeros });
    assert!(refused(zeros).contains("above 0"));
    assert!(refused(json!(7)).contains("\"rope_scaling\" should be an object"));
}
