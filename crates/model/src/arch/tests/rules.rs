//! What single families do with their configs.

use serde_json::{Value, json};

use super::{asking, attention, edited, from_hf, golden, golden_gguf, hf, names, of_gguf, windows};
use crate::arch::supported;
use crate::{Activation, Checkpoint, Ffn, RopeLayout, RowSelect, Scoring};

#[test]
fn an_unknown_architecture_is_told_what_is_known() {
    let (mut config, tensors) = golden("llama");
    config["architectures"] = json!(["MambaForCausalLM"]);
    let error = hf(&config, &tensors).unwrap_err().to_string();
    assert!(error.contains("\"MambaForCausalLM\"") && error.contains("Qwen3ForCausalLM"), "{error}");
    let (metadata, tensors) = golden_gguf("llama");
    let metadata = edited(&metadata, &[("general.architecture", "mamba".into())]);
    let error = of_gguf(&metadata, &tensors).unwrap_err().to_string();
    assert!(error.contains("\"mamba\"") && error.contains("qwen3"), "{error}");
}

#[test]
fn every_name_in_the_table_is_there_once_and_has_a_golden_family() {
    let mut hf: Vec<&str> = supported().iter().flat_map(|family| family.hf).copied().collect();
    let mut gguf: Vec<&str> = supported().iter().flat_map(|family| family.gguf).copied().collect();
    let (hf_count, gguf_count) = (hf.len(), gguf.len());
    hf.sort_unstable();
    hf.dedup();
    gguf.sort_unstable();
    gguf.dedup();
    assert_eq!((hf.len(), gguf.len()), (hf_count, gguf_count));
    let classes: Vec<String> =
        names().iter().map(|name| golden(name).0["architectures"][0].as_str().unwrap().to_owned()).collect();
    for family in supported() {
        assert!(family.hf.iter().any(|class| classes.iter().any(|c| c == class)), "{}", family.name);
    }
}

#[test]
fn a_context_may_be_shorter_but_not_longer_than_the_model_has() {
    let (config, tensors) = golden("llama");
    assert_eq!(from_hf(&config, &tensors, &asking(100)).unwrap().context_length, 100);
    let error = from_hf(&config, &tensors, &asking(129)).unwrap_err().to_string();
    assert!(error.contains("129") && error.contains("128 tokens"), "{error}");
    assert!(from_hf(&config, &tensors, &asking(0)).is_err());
}

#[test]
fn learned_positions_are_cut_to_the_context() {
    let (config, tensors) = golden("gpt2");
    let spec = from_hf(&config, &tensors, &asking(20)).unwrap();
    assert_eq!(spec.embedding.positions.as_ref().unwrap().rows, RowSelect::Span { start: 0, count: 20 });
    spec.validate(&tensors).unwrap();
    assert!(from_hf(&config, &tensors, &asking(65)).is_err());
}

#[test]
fn mistral_3_ends_where_its_attention_would_cool_down() {
    let (mut config, tensors) = golden("ministral3");
    assert_eq!(hf(&config, &tensors).unwrap().context_length, 64);
    config["rope_parameters"]["llama_4_scaling_beta"] = 0.0.into();
    assert_eq!(hf(&config, &tensors).unwrap().context_length, 256);
    let (metadata, tensors) = golden_gguf("ministral3");
    assert_eq!(of_gguf(&metadata, &tensors).unwrap().context_length, 64);
}

#[test]
fn windows_follow_the_rule_of_each_family() {
    let of = |name| {
        let (config, tensors) = golden(name);
        windows(&hf(&config, &tensors).unwrap())
    };
    let local = Some(16);
    assert_eq!(of("llama"), [None, None]);
    assert_eq!(of("mistral"), [local, local]);
    assert_eq!(of("ministral"), [local, None]);
    assert_eq!(of("qwen2"), [None, None]);
    assert_eq!(of("qwen2-window"), [None, local]);
    assert_eq!(of("gemma2"), [local, None]);
    assert_eq!(of("gemma3"), [local, local, local, local, local, None]);
    assert_eq!(of("gemma3-v5"), [None, local]);
    assert_eq!(of("gpt-oss"), [local, None]);
}

#[test]
fn windows_come_from_gguf_patterns_where_there_are_any() {
    let (metadata, tensors) = golden_gguf("gemma3");
    let pattern = [false, true, false, true, false, true];
    let metadata =
        edited(&metadata, &[("gemma3.attention.sliding_window_pattern", pattern.as_slice().into())]);
    let expected: Vec<Option<usize>> = pattern.iter().map(|local| local.then_some(16)).collect();
    assert_eq!(windows(&of_gguf(&metadata, &tensors).unwrap()), expected);
    // Phi-4 says that it has none by a window of 0.
    let (metadata, tensors) = golden_gguf("phi3-long");
    let window = |value: u32| {
        let metadata = edited(&metadata, &[("phi3.attention.sliding_window", value.into())]);
        windows(&of_gguf(&metadata, &tensors).unwrap())
    };
    assert_eq!(window(0), [None, None]);
    assert_eq!(window(8), [Some(8), Some(8)]);
}

#[test]
fn a_window_in_the_config_of_a_llama_means_nothing() {
    let (mut config, tensors) = golden("llama");
    config["sliding_window"] = 16.into();
    assert_eq!(windows(&hf(&config, &tensors).unwrap()), [None, None]);
}

#[test]
fn granite_4_runs_unless_a_layer_is_recurrent() {
    let (mut config, tensors) = golden("granite4");
    assert_eq!(attention(&hf(&config, &tensors).unwrap(), 1).rope, Some(0));
    config["position_embedding_type"] = "nope".into();
    assert_eq!(attention(&hf(&config, &tensors).unwrap(), 1).rope, None);
    config["layer_types"][1] = "mamba".into();
    assert!(hf(&config, &tensors).unwrap_err().to_string().contains("Mamba"));
}

#[test]
fn granite_in_gguf_may_have_no_positions() {
    let (metadata, tensors) = golden_gguf("granite");
    let metadata = edited(&metadata, &[("granite.rope.scaling.finetuned", false.into())]);
    assert_eq!(attention(&of_gguf(&metadata, &tensors).unwrap(), 0).rope, None);
}

#[test]
fn what_gguf_can_say_and_no_backend_runs_is_refused() {
    let (metadata, tensors) = golden_gguf("qwen3-moe");
    for (key, value) in [("expert_gating_func", 2u32), ("attention.value_length", 4)] {
        let metadata = edited(&metadata, &[(&format!("qwen3moe.{key}"), value.into())]);
        let error = of_gguf(&metadata, &tensors).unwrap_err();
        assert!(matches!(error, crate::ModelError::Unsupported(_)), "{key}: {error}");
    }
}

#[test]
fn layer_types_are_checked() {
    let (mut config, tensors) = golden("ministral");
    config["layer_types"] = json!(["sliding_attention", "chunked_attention"]);
    assert!(hf(&config, &tensors).unwrap_err().to_string().contains("chunked_attention"));
    config["layer_types"] = json!(["sliding_attention"]);
    assert!(hf(&config, &tensors).unwrap_err().to_string().contains("2 items"));
    config["layer_types"] = json!(["sliding_attention", "full_attention"]);
    config["sliding_window"] = Value::Null;
    assert!(hf(&config, &tensors).unwrap_err().to_string().contains("sliding_window"));
}

#[test]
fn smollm_3_leaves_every_fourth_layer_without_positions() {
    let (mut config, tensors) = golden("smollm3");
    let rotates = |config: &Value| {
        let spec = hf(config, &tensors).unwrap();
        (0..4).map(|layer| attention(&spec, layer).rope.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(rotates(&config), [true, true, true, false]);
    config["no_rope_layers"] = json!([0, 1, 0, 1]);
    assert_eq!(rotates(&config), [false, true, false, true]);
    config["no_rope_layers"] = Value::Null;
    config["no_rope_layer_interval"] = 2.into();
    assert_eq!(rotates(&config), [true, false, true, false]);
    config["no_rope_layers"] = json!([0, 1, 0, "1"]);
    assert!(hf(&config, &tensors).is_err());
}

#[test]
fn qwen3_moe_has_dense_layers_and_routers_that_do_not_normalise() {
    let (config, tensors) = golden("qwen3-moe-mixed");
    let spec = hf(&config, &tensors).unwrap();
    assert!(matches!(spec.layers[0].ffn, Ffn::Dense(_)));
    let Ffn::Moe(moe) = &spec.layers[1].ffn else { panic!("no experts") };
    assert_eq!((moe.scoring, moe.top_k, moe.experts.len()), (Scoring::Softmax, 2, 4));
    let (config, tensors) = golden("qwen3-moe");
    let spec = hf(&config, &tensors).unwrap();
    let Ffn::Moe(moe) = &spec.layers[0].ffn else { panic!("no experts") };
    assert_eq!(moe.scoring, Scoring::SoftmaxNormalised);
}

#[test]
fn gemma_scales_scores_by_its_own_scalar() {
    let (config, tensors) = golden("gemma3-v5");
    assert_eq!(attention(&hf(&config, &tensors).unwrap(), 0).scale, (1.0 / 40f64.sqrt()) as f32);
    // In GGUF it follows from the sizes: the width of a head, but for the largest, known by their 46 layers.
    let (metadata, mut tensors) = golden_gguf("gemma2");
    assert_eq!(attention(&of_gguf(&metadata, &tensors).unwrap(), 0).scale, 0.25);
    let layer: Vec<_> = tensors.0.iter().filter(|(name, _)| name.starts_with("blk.0.")).collect();
    let layer: Vec<_> = layer.into_iter().map(|(name, shape)| (name.clone(), shape.clone())).collect();
    for i in 2..46 {
        let renamed =
            layer.iter().map(|(name, shape)| (name.replace("blk.0.", &format!("blk.{i}.")), shape.clone()));
        tensors.0.extend(renamed);
    }
    let metadata = edited(&metadata, &[("gemma2.block_count", 46u32.into())]);
    let spec = of_gguf(&metadata, &tensors).unwrap();
    assert_eq!(attention(&spec, 45).scale, (1.0 / (32f64 / 2.0).sqrt()) as f32);
}

#[test]
fn gemma_norms_mean_one_more_in_safetensors_only() {
    let (config, tensors) = golden("gemma2");
    let (metadata, gguf_tensors) = golden_gguf("gemma2");
    let (hf, gguf) = (hf(&config, &tensors).unwrap(), of_gguf(&metadata, &gguf_tensors).unwrap());
    assert_eq!((hf.final_norm.offset, gguf.final_norm.offset), (1.0, 0.0));
    assert_eq!(hf.layers[0].post_ffn.as_ref().unwrap().offset, 1.0);
    assert_eq!((hf.head.softcap, gguf.head.softcap), (Some(4.0), Some(4.0)));
    assert_eq!(hf.embedding.scale, 32f32.sqrt());
}

#[test]
fn converters_of_the_llama_family_permute_and_others_do_not() {
    for name in names() {
        let path = super::folder(&name).join("model.gguf");
        let Ok(checkpoint) = Checkpoint::open(path) else { continue };
        let spec = checkpoint.spec(&Default::default()).unwrap();
        let permuted = ["llama", "mistral3", "granite", "granitemoe", "smollm3"];
        for rope in &spec.ropes {
            let expected = match permuted.contains(&spec.architecture.as_str()) {
                true => RopeLayout::Interleaved,
                false => RopeLayout::Half,
            };
            assert_eq!(rope.layout, expected, "{name}");
        }
    }
}

#[test]
fn gpt_oss_reads_alternating_rows_of_both_of_its_forms() {
    for (name, transpose) in [("gpt-oss", true), ("gpt-oss-mxfp4", false)] {
        let (config, tensors) = golden(name);
        let spec = hf(&config, &tensors).unwrap();
        let Ffn::Moe(moe) = &spec.layers[0].ffn else { panic!("no experts") };
        let up = &moe.experts[2].up;
        assert_eq!(up.weight.rows, RowSelect::Stride { start: 1, step: 2, count: 32 }, "{name}");
        assert_eq!((up.weight.index, up.weight.transpose), (Some(2), transpose), "{name}");
        assert_eq!(up.bias.as_ref().unwrap().index, Some(2), "{name}");
        assert_eq!(moe.experts[0].activation, Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 });
        assert!(attention(&spec, 0).sinks.is_some());
    }
}

#[test]
fn other_activations_are_taken_by_name_or_refused_by_name() {
    let (mut config, tensors) = golden("llama");
    config["hidden_act"] = "gelu_pytorch_tanh".into();
    let spec = hf(&config, &tensors).unwrap();
    assert!(matches!(&spec.layers[0].ffn, Ffn::Dense(mlp) if mlp.activation == Activation::GeluTanh));
    config["hidden_act"] = "relu2".into();
    assert!(hf(&config, &tensors).unwrap_err().to_string().contains("\"relu2\" is not supported"));
}
