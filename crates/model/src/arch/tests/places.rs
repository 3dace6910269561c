//! The same model, with its tensors and its description in the other places where checkpoints have them.

use serde_json::{Value, json};

use super::{Shapes, attention, golden, hf};
use crate::{Ffn, ModelSpec, RowSelect};

/// The spec as text, with the names of tensors as `rename` makes them and without the architecture's name.
fn text(spec: &ModelSpec, rename: impl Fn(String) -> String) -> String {
    let spec = ModelSpec { architecture: String::new(), ..spec.clone() };
    rename(format!("{spec:?}"))
}

/// `config` as the text part of a model of several modalities.
fn nested(architecture: &str, mut config: Value) -> Value {
    config.as_object_mut().unwrap().remove("architectures");
    json!({ "architectures": [architecture], "text_config": config, "vision_config": {} })
}

fn assert_nested(name: &str, architecture: &str) {
    let (config, tensors) = golden(name);
    let plain = text(&hf(&config, &tensors).unwrap(), |text| text);
    let config = nested(architecture, config);
    let old = tensors.renamed(|name| format!("language_model.{name}"));
    let spec = hf(&config, &old).unwrap();
    assert_eq!(text(&spec, |text| text.replace("language_model.", "")), plain, "{name}, old way");
    let new = tensors.renamed(|name| match name.strip_prefix("model.") {
        Some(rest) => format!("model.language_model.{rest}"),
        None => name.to_owned(),
    });
    let spec = hf(&config, &new).unwrap();
    assert_eq!(text(&spec, |text| text.replace("language_model.", "")), plain, "{name}, new way");
}

#[test]
fn the_text_part_of_a_larger_model_is_the_text_model() {
    assert_nested("gemma3", "Gemma3ForConditionalGeneration");
    assert_nested("ministral3", "Mistral3ForConditionalGeneration");
}

#[test]
fn a_decoder_without_its_usual_prefix_is_found() {
    let (config, tensors) = golden("qwen3");
    let plain = text(&hf(&config, &tensors).unwrap(), |text| text.replace("model.", ""));
    let bare = tensors.renamed(|name| name.trim_start_matches("model.").to_owned());
    assert_eq!(text(&hf(&config, &bare).unwrap(), |text| text), plain);
}

#[test]
fn gemma_3_fills_in_what_its_small_configs_leave_out() {
    let config = json!({
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": {
            "hidden_size": 64,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "rope_scaling": { "factor": 8.0, "rope_type": "linear" },
            "sliding_window": 1024,
        },
    });
    let layer = "language_model.model.layers.0.";
    let tensors = Shapes(
        [
            ("self_attn.q_proj.weight", vec![8 * 256, 64]),
            ("self_attn.k_proj.weight", vec![4 * 256, 64]),
            ("self_attn.v_proj.weight", vec![4 * 256, 64]),
            ("self_attn.o_proj.weight", vec![64, 8 * 256]),
            ("self_attn.q_norm.weight", vec![256]),
            ("self_attn.k_norm.weight", vec![256]),
            ("input_layernorm.weight", vec![64]),
            ("post_attention_layernorm.weight", vec![64]),
            ("pre_feedforward_layernorm.weight", vec![64]),
            ("post_feedforward_layernorm.weight", vec![64]),
            ("mlp.gate_proj.weight", vec![32, 64]),
            ("mlp.up_proj.weight", vec![32, 64]),
            ("mlp.down_proj.weight", vec![64, 32]),
        ]
        .into_iter()
        .map(|(name, shape)| (format!("{layer}{name}"), shape))
        .chain([
            ("language_model.model.embed_tokens.weight".into(), vec![32, 64]),
            ("language_model.model.norm.weight".into(), vec![64]),
        ])
        .collect(),
    );
    let spec = hf(&config, &tensors).unwrap();
    let attention = attention(&spec, 0);
    assert_eq!((attention.heads, attention.kv_heads, attention.head_dim), (8, 4, 256));
    assert_eq!((attention.window, attention.rope, attention.scale), (Some(1024), Some(1), 1.0 / 16.0));
    assert_eq!(spec.context_length, 131_072);
    assert_eq!(spec.final_norm.offset, 1.0);
    // Global frequencies are stretched eightfold, local ones are not.
    assert_eq!((spec.ropes[0].inv_freq[0], spec.ropes[1].inv_freq[0]), (0.125, 1.0));
    assert!((spec.ropes[0].inv_freq[127] / (1e6f32.powf(-254.0 / 256.0) / 8.0) - 1.0).abs() < 1e-5);
    assert!((spec.ropes[1].inv_freq[127] / 1e4f32.powf(-254.0 / 256.0) - 1.0).abs() < 1e-5);
}

/// The experts' gate, up and down as `(tensor, first row)`, layer 0.
fn places(spec: &ModelSpec) -> Vec<[(String, usize); 3]> {
    let Ffn::Moe(moe) = &spec.layers[0].ffn else { panic!("no experts") };
    let place = |linear: &crate::Linear| match linear.weight.rows {
        RowSelect::Span { start, .. } => (linear.weight.name.clone(), start),
        _ => (linear.weight.name.clone(), 0),
    };
    let expert = |mlp: &crate::Mlp| [mlp.gate.as_ref().unwrap(), &mlp.up, &mlp.down].map(place);
    moe.experts.iter().map(expert).collect()
}

#[test]
fn experts_are_found_in_stacks_of_three_as_mlx_keeps_them() {
    let (config, mut tensors) = golden("qwen3-moe");
    tensors.0.retain(|name, _| !name.contains(".experts."));
    for layer in 0..2 {
        for (part, shape) in
            [("gate_proj", [4, 32, 32]), ("up_proj", [4, 32, 32]), ("down_proj", [4, 32, 32])]
        {
            let name = format!("model.layers.{layer}.mlp.switch_mlp.{part}.weight");
            tensors.0.insert(name, shape.to_vec());
        }
    }
    let places = places(&hf(&config, &tensors).unwrap());
    assert_eq!(places.len(), 4);
    assert_eq!(places[3][1], ("model.layers.0.mlp.switch_mlp.up_proj.weight".into(), 3 * 32));
}

#[test]
fn experts_are_found_with_gate_above_up() {
    let (config, mut tensors) = golden("mixtral");
    tensors.0.retain(|name, _| !name.contains(".experts."));
    for layer in 0..2 {
        let experts = format!("model.layers.{layer}.block_sparse_moe.experts");
        tensors.0.insert(format!("{experts}.gate_up_proj"), vec![4, 64, 32]);
        tensors.0.insert(format!("{experts}.down_proj"), vec![4, 32, 32]);
    }
    let places = places(&hf(&config, &tensors).unwrap());
    let name = |part: &str| format!("model.layers.0.block_sparse_moe.experts.{part}");
    assert_eq!(
        places[2],
        [(name("gate_up_proj"), 128), (name("gate_up_proj"), 160), (name("down_proj"), 64)]
    );
}

#[test]
fn gpt_oss_experts_are_found_in_stacks_of_three_with_biases() {
    let (config, mut tensors) = golden("gpt-oss");
    tensors.0.retain(|name, _| !name.contains(".experts."));
    for layer in 0..2 {
        for part in ["gate_proj", "up_proj", "down_proj"] {
            let experts = format!("model.layers.{layer}.mlp.experts.{part}");
            tensors.0.insert(format!("{experts}.weight"), vec![4, 32, 32]);
            tensors.0.insert(format!("{experts}.bias"), vec![4, 32]);
        }
    }
    let spec = hf(&config, &tensors).unwrap();
    spec.validate(&tensors).unwrap();
    let Ffn::Moe(moe) = &spec.layers[1].ffn else { panic!("no experts") };
    let bias = moe.experts[3].down.bias.as_ref().unwrap();
    assert_eq!(bias.rows, RowSelect::Span { start: 3, count: 1 });
}

#[test]
fn the_head_is_the_embedding_where_the_config_or_the_tensors_say_so() {
    let (mut config, mut tensors) = golden("llama");
    assert_eq!(hf(&config, &tensors).unwrap().head.linear.weight.name, "lm_head.weight");
    config["tie_word_embeddings"] = true.into();
    assert_eq!(hf(&config, &tensors).unwrap().head.linear.weight.name, "model.embed_tokens.weight");
    config["tie_word_embeddings"] = Value::Null;
    tensors.0.remove("lm_head.weight");
    assert_eq!(hf(&config, &tensors).unwrap().head.linear.weight.name, "model.embed_tokens.weight");
}

#[test]
fn gpt_2_is_found_with_any_prefix_and_either_way_up() {
    let (config, tensors) = golden("gpt2");
    let plain = hf(&config, &tensors).unwrap();
    let bare = tensors.renamed(|name| name.trim_start_matches("transformer.").to_owned());
    let spec = hf(&config, &bare).unwrap();
    assert_eq!(text(&spec, |text| text), text(&plain, |text| text.replace("transformer.", "")));
    // MLX's converter transposes the matrices.
    let mut upright = bare.renamed(|name| format!("model.{name}"));
    let matrices = ["c_attn.weight", "c_proj.weight", "c_fc.weight"];
    let turned =
        upright.0.iter_mut().filter(|(name, _)| matrices.iter().any(|matrix| name.ends_with(matrix)));
    turned.for_each(|(_, shape)| shape.reverse());
    let spec = hf(&config, &upright).unwrap();
    spec.validate(&upright).unwrap();
    assert!(!attention(&spec, 0).q.weight.transpose && attention(&plain, 0).q.weight.transpose);
}
