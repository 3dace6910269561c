//! A safetensors folder as GGUF: metadata and tensor names as llama.cpp's converter writes them.
//!
//! For the families whose layout is the same but for names: Llama and Mistral (`llama`), Qwen2 and Qwen3. Others, and
//! settings that change how these are run and are not taken over here, are refused by name.

use anyhow::{Context, Result, bail};
use perch_model::gguf::Writer;
use perch_model::{Checkpoint, DType, Quantize};
use serde_json::Value;

use super::plan::{Plan, Planned, Source, dtype, target};
use super::vocab;

/// config.json's name for a family and GGUF's.
const FAMILIES: [(&str, &str); 4] = [
    ("LlamaForCausalLM", "llama"),
    ("MistralForCausalLM", "llama"),
    ("Qwen2ForCausalLM", "qwen2"),
    ("Qwen3ForCausalLM", "qwen3"),
];

/// What stands in a layer, by both names.
const PARTS: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

/// The sizes that both metadata and tensors need.
struct Sizes {
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

pub(super) fn plan(checkpoint: &Checkpoint, kind: Quantize) -> Result<Plan> {
    let config = checkpoint.config().context("it has no config.json")?;
    let named = checkpoint.architecture().unwrap_or("a model without a name");
    let Some((_, architecture)) = FAMILIES.iter().find(|(family, _)| *family == named) else {
        let known = FAMILIES.map(|(family, _)| family).join(", ");
        bail!(
            "{named} cannot be written as GGUF by Perch; {known} can. Quantise on load, or a GGUF file, works for all"
        );
    };
    let mut header = Writer::new();
    let sizes = describe(&mut header, architecture, config)?;
    name(&mut header, checkpoint, config);
    let width =
        checkpoint.stored().find(|stored| stored.name == "model.embed_tokens.weight").map(|t| t.shape[0]);
    vocab::write(&mut header, checkpoint, width.context("it has no embedding")?)?;

    let mut tensors = Vec::new();
    for stored in checkpoint.stored() {
        // Older exports hold the inverse frequencies, which are computed anyway.
        if stored.name.ends_with("rotary_emb.inv_freq") {
            continue;
        }
        let current = dtype(checkpoint, stored.name)?;
        if !matches!(current, DType::F32 | DType::F16 | DType::BF16) {
            bail!("tensor {:?} is quantised already; quantise the original, in floats", stored.name);
        }
        let name = gguf_name(stored.name)
            .with_context(|| format!("tensor {:?} has no place in GGUF", stored.name))?;
        let heads = match &*name {
            name if *architecture != "llama" || !name.starts_with("blk.") => None,
            name if name.contains(".attn_q.") => Some(sizes.heads),
            name if name.contains(".attn_k.") => Some(sizes.kv_heads),
            _ => None,
        };
        let own = stored.name.to_owned();
        let source = match heads {
            Some(heads) => Source::Interleaved { name: own, heads },
            None => Source::Tensor(own),
        };
        // llama.cpp adds and scales in F32: vectors are kept in it.
        let plain = if stored.shape.len() < 2 { DType::F32 } else { current };
        let dtype = target(&name, stored.shape, (current, kind), sizes.layers).unwrap_or(plain);
        tensors.push(Planned { name, source, dtype, shape: stored.shape.to_vec() });
    }
    if let Some(factors) = llama3_factors(config, &sizes)? {
        let shape = vec![factors.len()];
        let source = Source::Values(factors);
        tensors.push(Planned { name: "rope_freqs.weight".to_owned(), source, dtype: DType::F32, shape });
    }
    Ok(Plan { header, tensors })
}

/// `blk.3.attn_q.weight` of `model.layers.3.self_attn.q_proj.weight`.
fn gguf_name(name: &str) -> Option<String> {
    let fixed = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => "",
    };
    if !fixed.is_empty() {
        return Some(fixed.to_owned());
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    layer.parse::<usize>().ok()?;
    let (part, last) = rest.rsplit_once('.').filter(|(_, last)| matches!(*last, "weight" | "bias"))?;
    let (_, part) = PARTS.iter().find(|(theirs, _)| *theirs == part)?;
    Some(format!("blk.{layer}.{part}.{last}"))
}

/// Writes the sizes of the model.
fn describe(header: &mut Writer, architecture: &str, config: &Value) -> Result<Sizes> {
    let number = |key: &str| config[key].as_u64().with_context(|| format!("config.json has no {key}"));
    let (layers, heads, hidden) =
        (number("num_hidden_layers")?, number("num_attention_heads")?, number("hidden_size")?);
    let kv_heads = config["num_key_value_heads"].as_u64().unwrap_or(heads);
    let head_dim = config["head_dim"].as_u64().unwrap_or(hidden / heads.max(1));
    for (key, used) in
        [("sliding_window", config["use_sliding_window"] != false), ("attention_multiplier", true)]
    {
        if used && !config[key].is_null() {
            bail!("config.json has {key}, which is not taken over into GGUF; quantise on load instead");
        }
    }
    if config["hidden_act"].as_str().is_some_and(|act| act != "silu") {
        bail!("its activation is {}, which GGUF's {architecture} does not have", config["hidden_act"]);
    }
    header.set("general.architecture", architecture);
    let mut set = |key: &str, value: u64| -> Result<()> {
        header.set(&format!("{architecture}.{key}"), u32::try_from(value)?);
        Ok(())
    };
    set("block_count", layers)?;
    set("context_length", number("max_position_embeddings")?)?;
    set("embedding_length", hidden)?;
    set("feed_forward_length", number("intermediate_size")?)?;
    set("attention.head_count", heads)?;
    set("attention.head_count_kv", kv_heads)?;
    set("attention.key_length", head_dim)?;
    set("attention.value_length", head_dim)?;
    set("rope.dimension_count", head_dim)?;
    set("vocab_size", number("vocab_size")?)?;
    let float = |value: &Value| value.as_f64().map(|value| value as f32);
    let epsilon = float(&config["rms_norm_eps"]).context("config.json has no rms_norm_eps")?;
    header.set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), epsilon);
    let base = float(&config["rope_theta"])
        .or_else(|| float(&config["rope_parameters"]["rope_theta"]))
        .unwrap_or(1e4);
    header.set(&format!("{architecture}.rope.freq_base"), base);
    let size = |value: u64| usize::try_from(value).context("a size in config.json is too large");
    Ok(Sizes {
        layers: size(layers)?,
        heads: size(heads)?,
        kv_heads: size(kv_heads)?,
        head_dim: size(head_dim)?,
    })
}

fn name(header: &mut Writer, checkpoint: &Checkpoint, config: &Value) {
    let folder =
        checkpoint.path_of("config.json").and_then(|path| path.parent().map(std::path::Path::to_path_buf));
    let folder = folder.and_then(|folder| folder.canonicalize().ok());
    let folder = folder.as_deref().and_then(std::path::Path::file_name).and_then(|name| name.to_str());
    let given = config["_name_or_path"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
        .filter(|name| !name.is_empty());
    if let Some(name) = given.or(folder) {
        header.set("general.name", name);
    }
    header.set("general.type", "model");
}

/// Llama 3's factors on the rotary frequencies, which GGUF keeps as a tensor. Other scalings are refused.
fn llama3_factors(config: &Value, sizes: &Sizes) -> Result<Option<Vec<f32>>> {
    let scaling =
        [&config["rope_scaling"], &config["rope_parameters"]].into_iter().find(|value| value.is_object());
    let Some(scaling) = scaling else { return Ok(None) };
    match scaling["rope_type"].as_str().or_else(|| scaling["type"].as_str()) {
        None | Some("default") => return Ok(None),
        Some("llama3") => {}
        Some(other) => bail!(
            "its rotary scaling is {other:?}, which is not taken over into GGUF; quantise on load instead"
        ),
    }
    let number = |key: &str| scaling[key].as_f64().with_context(|| format!("rope_scaling has no {key}"));
    let (factor, low, high) = (number("factor")?, number("low_freq_factor")?, number("high_freq_factor")?);
    let original = number("original_max_position_embeddings")?;
    let base = config["rope_theta"].as_f64().or_else(|| scaling["rope_theta"].as_f64()).unwrap_or(1e4);
    let factors = (0..sizes.head_dim / 2).map(|pair| {
        let frequency = base.powf(-2.0 * pair as f64 / sizes.head_dim as f64);
        let wavelength = 2.0 * std::f64::consts::PI / frequency;
        let smooth = (original / wavelength - low) / (high - low);
        let scaled = match wavelength {
            short if short < original / high => 1.0,
            long if long > original / low => factor,
            _ => 1.0 / ((1.0 - smooth) / factor + smooth),
        };
        scaled as f32
    });
    Ok(Some(factors.collect()))
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
            ("model.layers.0.mlp.experts.0.down_proj.weight", None),
            ("model.layers.x.mlp.down_proj.weight", None),
            ("visual.patch.weight", None),
        ] {
            assert_eq!(gguf_name(theirs).as_deref(), ours, "{theirs}");
        }
    }
}
