//! The families whose safetensors can be written as GGUF: what GGUF calls them and their tensors, and what their converter in
//! llama.cpp (`convert_hf_to_gguf.py`) does beyond renaming.

use anyhow::{Context, Result, bail};
use perch_model::gguf::{Value, Writer};
use serde_json::Value as Json;

/// A family of models.
pub(super) struct Family {
    /// config.json's name for it.
    pub(super) theirs: &'static str,
    /// GGUF's.
    pub(super) ours: &'static str,
    /// Whether the rows of query and key heads are interleaved.
    pub(super) interleaved: bool,
    /// Whether norms hold what is to be added to one.
    pub(super) norms_from_one: bool,
    /// The activation that GGUF's architecture stands for.
    pub(super) activation: &'static str,
    /// What stands in a layer, by both names.
    parts: &'static [&'static [(&'static str, &'static str)]],
    /// The group that experts are in, and their matrices, by both names.
    pub(super) experts: Option<(&'static str, [(&'static str, &'static str); 3])>,
    /// Keys of config.json that would be refused elsewhere.
    pub(super) takes: &'static [&'static str],
    /// Writes what only it has.
    pub(super) describe: fn(&Json, &mut Keys<'_>) -> Result<()>,
}

const ATTENTION: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
];
const MLP: &[(&str, &str)] =
    &[("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")];
const ONE_NORM: &[(&str, &str)] = &[("post_attention_layernorm", "ffn_norm")];
const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

const LLAMA: Family = Family {
    theirs: "LlamaForCausalLM",
    ours: "llama",
    interleaved: true,
    norms_from_one: false,
    activation: "silu",
    parts: &[ATTENTION, ONE_NORM, MLP],
    experts: None,
    takes: &[],
    describe: |_, _| Ok(()),
};
const GEMMA2: Family = Family {
    theirs: "Gemma2ForCausalLM",
    ours: "gemma2",
    interleaved: false,
    norms_from_one: true,
    activation: "gelu_pytorch_tanh",
    parts: &[ATTENTION, FOUR_NORMS, MLP],
    takes: &["sliding_window"],
    describe: gemma2,
    ..LLAMA
};

/// All of them.
pub(super) const FAMILIES: [Family; 11] = [
    LLAMA,
    Family { theirs: "MistralForCausalLM", takes: &["sliding_window"], describe: window, ..LLAMA },
    Family {
        theirs: "MixtralForCausalLM",
        parts: &[ATTENTION, ONE_NORM, &[("block_sparse_moe.gate", "ffn_gate_inp")]],
        experts: Some(("block_sparse_moe.experts", [("w1", "gate"), ("w3", "up"), ("w2", "down")])),
        describe: |config, keys| experts(config, keys, "num_local_experts"),
        ..LLAMA
    },
    Family { theirs: "Qwen2ForCausalLM", ours: "qwen2", interleaved: false, ..LLAMA },
    Family { theirs: "Qwen3ForCausalLM", ours: "qwen3", interleaved: false, ..LLAMA },
    Family {
        theirs: "Qwen3MoeForCausalLM",
        ours: "qwen3moe",
        interleaved: false,
        parts: &[ATTENTION, ONE_NORM, &[("mlp.gate", "ffn_gate_inp")]],
        experts: Some(("mlp.experts", [("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down")])),
        describe: qwen3_moe,
        ..LLAMA
    },
    Family {
        theirs: "Phi3ForCausalLM",
        ours: "phi3",
        interleaved: false,
        parts: &[
            ATTENTION,
            ONE_NORM,
            MLP,
            &[("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up")],
        ],
        takes: &["sliding_window"],
        describe: phi3,
        ..LLAMA
    },
    Family { theirs: "SmolLM3ForCausalLM", ours: "smollm3", describe: smollm3, ..LLAMA },
    Family {
        theirs: "GraniteForCausalLM",
        ours: "granite",
        takes: &["attention_multiplier"],
        describe: granite,
        ..LLAMA
    },
    GEMMA2,
    Family { theirs: "Gemma3ForCausalLM", ours: "gemma3", describe: gemma3, ..GEMMA2 },
];

impl Family {
    /// `blk.3.attn_q.weight` of `model.layers.3.self_attn.q_proj.weight`.
    pub(super) fn name(&self, theirs: &str) -> Option<String> {
        let fixed = match theirs {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            _ => "",
        };
        if !fixed.is_empty() {
            return Some(fixed.to_owned());
        }
        let (layer, rest) = in_layer(theirs)?;
        let (part, last) = rest.rsplit_once('.').filter(|(_, last)| matches!(*last, "weight" | "bias"))?;
        let (_, part) = self.parts.iter().copied().flatten().find(|(name, _)| *name == part)?;
        Some(format!("blk.{layer}.{part}.{last}"))
    }

    /// `blk.3.ffn_gate_exps.weight` and 7 of `model.layers.3.mlp.experts.7.gate_proj.weight`.
    pub(super) fn expert(&self, theirs: &str) -> Option<(String, usize)> {
        let (group, parts) = self.experts.as_ref()?;
        let (layer, rest) = in_layer(theirs)?;
        let (expert, part) = rest.strip_prefix(group)?.strip_prefix('.')?.split_once('.')?;
        let (_, part) = parts.iter().find(|(name, _)| part.strip_suffix(".weight") == Some(name))?;
        Some((format!("blk.{layer}.ffn_{part}_exps.weight"), expert.parse().ok()?))
    }
}

fn in_layer(theirs: &str) -> Option<(usize, &str)> {
    let (layer, rest) = theirs.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// Metadata under an architecture's name.
pub(super) struct Keys<'a> {
    pub(super) header: &'a mut Writer,
    pub(super) architecture: &'static str,
}

impl Keys<'_> {
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.header.set(&format!("{}.{key}", self.architecture), value);
    }

    /// A number that config.json must have.
    pub(super) fn number(&mut self, config: &Json, theirs: &str, key: &str) -> Result<u64> {
        let value = config[theirs].as_u64().with_context(|| format!("config.json has no {theirs}"))?;
        self.set(key, u32::try_from(value)?);
        Ok(value)
    }

    /// A factor that config.json may have.
    pub(super) fn factor(&mut self, config: &Json, theirs: &str, key: &str) {
        if let Some(value) = config[theirs].as_f64() {
            self.set(key, value as f32);
        }
    }
}

fn window(config: &Json, keys: &mut Keys<'_>) -> Result<()> {
    if !config["sliding_window"].is_null() {
        keys.number(config, "sliding_window", "attention.sliding_window")?;
    }
    Ok(())
}

fn experts(config: &Json, keys: &mut Keys<'_>, count: &str) -> Result<()> {
    keys.number(config, count, "expert_count")?;
    keys.number(config, "num_experts_per_tok", "expert_used_count")?;
    Ok(())
}

fn qwen3_moe(config: &Json, keys: &mut Keys<'_>) -> Result<()> {
    let mixed = config["mlp_only_layers"].as_array().is_some_and(|layers| !layers.is_empty());
    if mixed || config["decoder_sparse_step"].as_u64().unwrap_or(1) != 1 || config["norm_topk_prob"] != true {
        bail!("its experts are not used as GGUF's qwen3moe means them; quantise on load instead");
    }
    keys.number(config, "moe_intermediate_size", "expert_feed_forward_length")?;
    experts(config, keys, if config["num_experts"].is_null() { "num_local_experts" } else { "num_experts" })
}

/// Stretched contexts have a factor on the scores by how far they go beyond what was trained (LongRoPE, 2402.13753).
fn phi3(config: &Json, keys: &mut Keys<'_>) -> Result<()> {
    let number = |key: &str| config[key].as_u64();
    let longest = number("max_position_embeddings").unwrap_or(0);
    if number("sliding_window").is_some_and(|window| window < longest) {
        bail!("it has a sliding window, which GGUF's phi3 is run without; quantise on load instead");
    }
    keys.set("attention.sliding_window", 0u32);
    let scaling = &config["rope_scaling"];
    let trained = number("original_max_position_embeddings");
    let trained = trained.or_else(|| scaling["original_max_position_embeddings"].as_u64()).unwrap_or(longest);
    keys.set("rope.scaling.original_context_length", u32::try_from(trained)?);
    if scaling.is_object() {
        keys.set("rope.scaling.type", "longrope");
        let stretch = (longest as f64 / trained.max(1) as f64).max(1.0);
        let factor = (1.0 + stretch.ln() / (trained.max(2) as f64).ln()).sqrt();
        keys.set("rope.scaling.attn_factor", factor as f32);
    }
    Ok(())
}

/// GGUF's architecture leaves out the rotation in every fourth layer, and has no key for anything else.
fn smollm3(config: &Json, _: &mut Keys<'_>) -> Result<()> {
    let usual = |layers: &Vec<Json>| {
        layers
            .iter()
            .enumerate()
            .all(|(i, rotates)| rotates.as_u64() == Some(u64::from(!(i + 1).is_multiple_of(4))))
    };
    match config["no_rope_layers"].as_array() {
        Some(layers) if !usual(layers) => bail!("its layers without rotation are not every fourth one"),
        None if config["no_rope_layer_interval"].as_u64().unwrap_or(4) != 4 => {
            bail!("its layers without rotation are not every fourth one")
        }
        _ => Ok(()),
    }
}

fn granite(config: &Json, keys: &mut Keys<'_>) -> Result<()> {
    for (theirs, key) in [
        ("embedding_multiplier", "embedding_scale"),
        ("attention_multiplier", "attention.scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ] {
        keys.factor(config, theirs, key);
    }
    Ok(())
}

fn gemma2(config: &Json, keys: &mut Keys<'_>) -> Result<()> {
    gemma(config, keys, 2)?;
    keys.factor(config, "attn_logit_softcapping", "attn_logit_softcapping");
    keys.factor(config, "final_logit_softcapping", "final_logit_softcapping");
    Ok(())
}

fn gemma3(config: &Json, keys: &mut Keys<'_>) -> Result<()> {
    if ["attn_logit_softcapping", "final_logit_softcapping"].iter().any(|key| !config[*key].is_null()) {
        bail!("it caps its logits, which GGUF's gemma3 does not");
    }
    gemma(config, keys, 6)?;
    let local = config["rope_local_base_freq"].as_f64();
    let local = local.or_else(|| config["rope_parameters"]["sliding_attention"]["rope_theta"].as_f64());
    keys.set("rope.freq_base_swa", local.unwrap_or(1e4) as f32);
    Ok(())
}

/// What GGUF's architectures take for granted: every `period`-th layer sees everything, and scores are scaled by the width of
/// a head.
fn gemma(config: &Json, keys: &mut Keys<'_>, period: usize) -> Result<()> {
    let scalar = &config["query_pre_attn_scalar"];
    if !scalar.is_null() && scalar.as_f64() != config["head_dim"].as_f64() {
        bail!(
            "its query_pre_attn_scalar is not its head_dim, for which GGUF has no key; quantise on load instead"
        );
    }
    let usual = |kinds: &Vec<Json>| {
        let kind =
            |i: usize| if (i + 1).is_multiple_of(period) { "full_attention" } else { "sliding_attention" };
        kinds.iter().enumerate().all(|(i, one)| one == kind(i))
    };
    let patterned = |key: &str| config[key].as_u64().is_some_and(|given| given != period as u64);
    if config["layer_types"].as_array().is_some_and(|kinds| !usual(kinds))
        || patterned("sliding_window_pattern")
        || patterned("_sliding_window_pattern")
        || config["use_bidirectional_attention"] == true
    {
        bail!("its layers are not of the kinds that GGUF takes for granted; quantise on load instead");
    }
    window(config, keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tensors_are_those_of_llama_cpp() {
        for (theirs, ours) in [
            ("model.embed_tokens.weight", Some("token_embd.weight")),
            ("model.layers.11.self_attn.k_proj.bias", Some("blk.11.attn_k.bias")),
            ("model.layers.0.mlp.down_proj.weight", Some("blk.0.ffn_down.weight")),
            ("model.layers.0.post_attention_layernorm.weight", Some("blk.0.ffn_norm.weight")),
            ("model.layers.0.mlp.experts.0.down_proj.weight", None),
            ("model.layers.x.mlp.down_proj.weight", None),
            ("visual.patch.weight", None),
        ] {
            assert_eq!(LLAMA.name(theirs).as_deref(), ours, "{theirs}");
        }
        let norm = GEMMA2.name("model.layers.0.post_attention_layernorm.weight");
        assert_eq!(norm.as_deref(), Some("blk.0.post_attention_norm.weight"));
        let moe = FAMILIES.iter().find(|family| family.ours == "qwen3moe").unwrap();
        let expert = moe.expert("model.layers.3.mlp.experts.7.gate_proj.weight");
        assert_eq!(expert, Some(("blk.3.ffn_gate_exps.weight".to_owned(), 7)));
        assert_eq!(moe.expert("model.layers.3.mlp.gate.weight"), None);
    }
}
