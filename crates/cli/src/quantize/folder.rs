//! A safetensors folder as GGUF: metadata and tensor names as llama.cpp's converter writes them.
//!
//! For the families of `families.rs`. Others, and settings that change how these are run and are not taken over here, are
//! refused by name.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use perch_model::gguf::Writer;
use perch_model::{Checkpoint, DType, Quantize};
use serde_json::Value;

use super::families::{FAMILIES, Family, Keys};
use super::plan::{Plan, Planned, Source, dtype, target};
use super::vocab;

/// The sizes that both metadata and tensors need.
struct Sizes {
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

pub(super) fn plan(checkpoint: &Checkpoint, kind: Quantize) -> Result<Plan> {
    let mut plan = weights(checkpoint, kind)?;
    let width =
        checkpoint.stored().find(|stored| stored.name == "model.embed_tokens.weight").map(|t| t.shape[0]);
    vocab::write(&mut plan.header, checkpoint, width.context("it has no embedding")?)?;
    Ok(plan)
}

/// All but the tokenizer.
fn weights(checkpoint: &Checkpoint, kind: Quantize) -> Result<Plan> {
    let config = checkpoint.config().context("it has no config.json")?;
    let named = checkpoint.architecture().unwrap_or("a model without a name");
    let Some(family) = FAMILIES.iter().find(|family| family.theirs == named) else {
        let known = FAMILIES.map(|family| family.theirs).join(", ");
        bail!(
            "{named} cannot be written as GGUF by Perch; {known} can. Quantise on load, or a GGUF file, works for all"
        );
    };
    let mut header = Writer::new();
    let sizes = describe(&mut header, family, config)?;
    name(&mut header, checkpoint, config);

    let mut tensors = Vec::new();
    let mut experts: BTreeMap<String, Vec<(usize, &str)>> = BTreeMap::new();
    for stored in checkpoint.stored() {
        // Older exports hold the inverse frequencies, which are computed anyway.
        if stored.name.ends_with("rotary_emb.inv_freq") {
            continue;
        }
        if let Some((name, expert)) = family.expert(stored.name) {
            experts.entry(name).or_default().push((expert, stored.name));
            continue;
        }
        let current = floats(checkpoint, stored.name)?;
        let name = family
            .name(stored.name)
            .with_context(|| format!("tensor {:?} has no place in GGUF", stored.name))?;
        let heads = match &*name {
            name if !family.interleaved || !name.starts_with("blk.") => None,
            name if name.contains(".attn_q.") => Some(sizes.heads),
            name if name.contains(".attn_k.") => Some(sizes.kv_heads),
            _ => None,
        };
        let own = stored.name.to_owned();
        let source = match heads {
            Some(heads) => Source::Interleaved { name: own, heads },
            None if family.norms_from_one && name.ends_with("norm.weight") => Source::OneMore(own),
            None => Source::Tensor(own),
        };
        // llama.cpp adds and scales in F32: vectors are kept in it, and what chooses experts.
        let precise = stored.shape.len() < 2 || name.contains("ffn_gate_inp");
        let plain = if precise { DType::F32 } else { current };
        let dtype = target(&name, stored.shape, (current, kind), sizes.layers).unwrap_or(plain);
        tensors.push(Planned { name, source, dtype, shape: stored.shape.to_vec() });
    }
    for (name, stack) in experts {
        tensors.push(stacked(checkpoint, name, stack, (kind, sizes.layers))?);
    }
    for (name, factors) in rope_factors(config, family, &sizes)? {
        let shape = vec![factors.len()];
        let source = Source::Values(factors);
        tensors.push(Planned { name: name.to_owned(), source, dtype: DType::F32, shape });
    }
    Ok(Plan { header, tensors })
}

/// One tensor `[experts, rows, cols]` of a matrix of each expert.
fn stacked(
    checkpoint: &Checkpoint,
    name: String,
    mut stack: Vec<(usize, &str)>,
    (kind, layers): (Quantize, usize),
) -> Result<Planned> {
    stack.sort_unstable();
    if !stack.iter().map(|(expert, _)| *expert).eq(0..stack.len()) {
        bail!("an expert of {name} is missing");
    }
    let names: Vec<String> = stack.into_iter().map(|(_, name)| name.to_owned()).collect();
    let shape_of =
        |name: &str| checkpoint.stored().find(|stored| stored.name == name).map(|t| t.shape.to_vec());
    let one = shape_of(&names[0]).unwrap_or_default();
    if one.len() != 2 || names.iter().any(|name| shape_of(name).as_ref() != Some(&one)) {
        bail!("the experts of {name} are not of one size");
    }
    let shape = vec![names.len(), one[0], one[1]];
    let current = floats(checkpoint, &names[0])?;
    let dtype = target(&name, &shape, (current, kind), layers).unwrap_or(current);
    Ok(Planned { name, source: Source::Stacked { names, rows: one[0] }, dtype, shape })
}

/// The type of a tensor, which must be floats.
fn floats(checkpoint: &Checkpoint, name: &str) -> Result<DType> {
    match dtype(checkpoint, name)? {
        current @ (DType::F32 | DType::F16 | DType::BF16) => Ok(current),
        _ => bail!("tensor {name:?} is quantised already; quantise the original, in floats"),
    }
}

/// Writes the sizes of the model.
fn describe(header: &mut Writer, family: &Family, config: &Value) -> Result<Sizes> {
    for (key, used) in
        [("sliding_window", config["use_sliding_window"] != false), ("attention_multiplier", true)]
    {
        if used && !config[key].is_null() && !family.takes.contains(&key) {
            bail!("config.json has {key}, which is not taken over into GGUF; quantise on load instead");
        }
    }
    let activation = config["hidden_act"].as_str().or_else(|| config["hidden_activation"].as_str());
    if activation.is_some_and(|act| act != family.activation) {
        bail!("its activation is {activation:?}, which GGUF's {} does not have", family.ours);
    }
    header.set("general.architecture", family.ours);
    let mut keys = Keys { header, architecture: family.ours };
    let layers = keys.number(config, "num_hidden_layers", "block_count")?;
    keys.number(config, "max_position_embeddings", "context_length")?;
    let hidden = keys.number(config, "hidden_size", "embedding_length")?;
    keys.number(config, "intermediate_size", "feed_forward_length")?;
    let heads = keys.number(config, "num_attention_heads", "attention.head_count")?;
    let kv_heads = config["num_key_value_heads"].as_u64().unwrap_or(heads);
    let head_dim = config["head_dim"].as_u64().unwrap_or(hidden / heads.max(1));
    for (key, value) in [
        ("attention.head_count_kv", kv_heads),
        ("attention.key_length", head_dim),
        ("attention.value_length", head_dim),
        ("rope.dimension_count", rotated(config, head_dim)),
    ] {
        keys.set(key, u32::try_from(value)?);
    }
    keys.number(config, "vocab_size", "vocab_size")?;
    let float = |value: &Value| value.as_f64().map(|value| value as f32);
    let epsilon = float(&config["rms_norm_eps"]).context("config.json has no rms_norm_eps")?;
    keys.set("attention.layer_norm_rms_epsilon", epsilon);
    let rope = rope_parameters(config);
    let base = float(&config["rope_theta"]).or_else(|| float(&rope?["rope_theta"])).unwrap_or(1e4);
    keys.set("rope.freq_base", base);
    if let Some(factor) =
        rope.filter(|rope| rope_type(rope) == Some("linear")).and_then(|rope| float(&rope["factor"]))
    {
        keys.set("rope.scaling.type", "linear");
        keys.set("rope.scaling.factor", factor);
    }
    (family.describe)(config, &mut keys)?;
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

/// What is said of the rotation, in either of the places that transformers has for it.
fn rope_parameters(config: &Value) -> Option<&Value> {
    let said =
        [&config["rope_scaling"], &config["rope_parameters"]].into_iter().find(|value| value.is_object())?;
    // Where kinds of layers have tables of their own, this is that of the layers that see everything.
    Some(said.get("full_attention").unwrap_or(said))
}

/// How much of a head of this width is rotated.
fn rotated(config: &Value, head_dim: u64) -> u64 {
    let said = rope_parameters(config).and_then(|rope| rope["partial_rotary_factor"].as_f64());
    let share = said.or_else(|| config["partial_rotary_factor"].as_f64()).unwrap_or(1.0);
    (head_dim as f64 * share.min(1.0)) as u64
}

fn rope_type(parameters: &Value) -> Option<&str> {
    parameters["rope_type"].as_str().or_else(|| parameters["type"].as_str())
}

/// Factors on the rotary frequencies, which GGUF keeps as tensors. Scalings that are not taken over are refused.
fn rope_factors(config: &Value, family: &Family, sizes: &Sizes) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let Some(scaling) = rope_parameters(config) else { return Ok(Vec::new()) };
    match rope_type(scaling) {
        None | Some("default" | "linear") => Ok(Vec::new()),
        Some("llama3") => Ok(vec![("rope_freqs.weight", llama3_factors(config, scaling, sizes)?)]),
        // Phi-3 called it by the name of its first author at first.
        Some("longrope" | "su") if family.ours == "phi3" => Ok(vec![
            ("rope_factors_long.weight", list(scaling, "long_factor")?),
            ("rope_factors_short.weight", list(scaling, "short_factor")?),
        ]),
        Some(other) => bail!(
            "its rotary scaling is {other:?}, which is not taken over into GGUF; quantise on load instead"
        ),
    }
}

fn list(scaling: &Value, key: &str) -> Result<Vec<f32>> {
    let list = scaling[key].as_array().with_context(|| format!("rope_scaling has no {key}"))?;
    Ok(list.iter().filter_map(Value::as_f64).map(|factor| factor as f32).collect())
}

/// What Llama 3 divides each frequency by.
fn llama3_factors(config: &Value, scaling: &Value, sizes: &Sizes) -> Result<Vec<f32>> {
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
    Ok(factors.collect())
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use perch_model::{Format, Weight};

    use super::*;
    use crate::quantize::write;

    /// A tiny model of transformers, and the same as GGUF, which llama.cpp has run.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/goldens/arch").join(name)
    }

    fn values(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
        checkpoint.load(&Weight::new(name), None).unwrap().values()
    }

    #[test]
    fn folders_become_what_llama_cpp_has_run() {
        for name in [
            "llama",
            "smollm2",
            "deepseek-coder",
            "llama-llama3",
            "mistral",
            "mixtral",
            "qwen2",
            "qwen3",
            "qwen3-moe",
            "phi3-short",
            "phi3-long",
            "phi4-mini",
            "smollm3",
            "granite",
            "gemma2",
            "gemma3",
        ] {
            let folder = Checkpoint::open(golden(name)).unwrap();
            assert_eq!(
                folder.format(),
                Format::Safetensors,
                "{name}: the folder's own GGUF is not what is opened"
            );
            let plan = weights(&folder, Quantize::Q8_0).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
            write::write(&folder, &plan, file.as_file()).unwrap();
            let (ours, theirs) = (
                Checkpoint::open(file.path()).unwrap(),
                Checkpoint::open(golden(name).join("model.gguf")).unwrap(),
            );

            let (metadata, expected) = (ours.gguf_metadata().unwrap(), theirs.gguf_metadata().unwrap());
            let architecture = expected.architecture().unwrap();
            assert_eq!(metadata.architecture().unwrap(), architecture, "{name}");
            for key in expected.keys().filter(|key| key.starts_with(architecture)) {
                let of = |metadata: &perch_model::gguf::Metadata| {
                    (metadata.get_u64(key), metadata.get_f32(key), metadata.get_str(key).map(str::to_owned))
                };
                assert_eq!(of(metadata), of(expected), "{name}: {key}");
            }
            let names = |checkpoint: &Checkpoint| checkpoint.names().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(names(&ours), names(&theirs), "{name}");
            for stored in theirs.stored() {
                let (got, wanted) = (values(&ours, stored.name), values(&theirs, stored.name));
                assert_eq!(got.len(), wanted.len(), "{name}: {}", stored.name);
                let square = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
                let off = square(&mut got.iter().zip(&wanted).map(|(a, b)| a - b))
                    / square(&mut wanted.iter().copied());
                // Eight bits are off by half a percent; a row in the wrong place is off by more than all of it.
                assert!(
                    off.sqrt() < 0.01,
                    "{name}: {} is {} from what it should be",
                    stored.name,
                    off.sqrt()
                );
            }
        }
    }

    #[test]
    fn what_gguf_has_no_key_for_is_refused() {
        for (name, why) in [
            ("gemma3-v5", "query_pre_attn_scalar"),
            ("llama-yarn", "yarn"),
            ("llama-dynamic", "dynamic"),
            ("qwen2-window", "sliding_window"),
            ("qwen3-moe-mixed", "experts"),
            ("gpt2", "cannot be written"),
        ] {
            let error = weights(&Checkpoint::open(golden(name)).unwrap(), Quantize::Q8_0).err().unwrap();
            assert!(format!("{error:#}").contains(why), "{name}: {error:#}");
        }
    }
}
