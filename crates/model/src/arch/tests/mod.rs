//! Tests of what families make of configs: spellings, placements and rules that the goldens do not show.

mod hostile;
mod places;
mod ropes;
mod rules;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{SpecOptions, from_gguf, from_hf};
use crate::gguf::{self, Metadata};
use crate::{Attention, Checkpoint, Mixer, ModelError, ModelSpec, TensorIndex};

/// Tensors that are shapes only.
#[derive(Debug, Clone, Default)]
struct Shapes(BTreeMap<String, Vec<usize>>);

impl TensorIndex for Shapes {
    fn shape(&self, name: &str) -> Option<&[usize]> {
        self.0.get(name).map(Vec::as_slice)
    }

    fn values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        match self.0.get(name).map(Vec::as_slice) {
            Some(&[len]) => Ok(vec![1.0; len]),
            _ => Err(self.invalid(format!("{name} has no values"))),
        }
    }
}

impl Shapes {
    /// The same tensors under the names that `rename` gives them.
    fn renamed(&self, rename: impl Fn(&str) -> String) -> Self {
        Self(self.0.iter().map(|(name, shape)| (rename(name), shape.clone())).collect())
    }
}

/// A golden checkpoint: its config and the shapes of its tensors.
fn golden(name: &str) -> (Value, Shapes) {
    let checkpoint = Checkpoint::open(folder(name)).unwrap();
    (checkpoint.config().unwrap().clone(), shapes(&checkpoint))
}

fn golden_gguf(name: &str) -> (Metadata, Shapes) {
    let checkpoint = Checkpoint::open(folder(name).join("model.gguf")).unwrap();
    (checkpoint.gguf_metadata().unwrap().clone(), shapes(&checkpoint))
}

fn shapes(checkpoint: &Checkpoint) -> Shapes {
    let shape = |name: &str| (name.to_owned(), checkpoint.shape(name).unwrap().to_vec());
    Shapes(checkpoint.names().map(shape).collect())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/arch").join(name)
}

fn names() -> Vec<String> {
    let folders = std::fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap());
    let folders = folders.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn hf(config: &Value, tensors: &Shapes) -> Result<ModelSpec, ModelError> {
    from_hf(config, tensors, &SpecOptions::default())
}

fn of_gguf(metadata: &Metadata, tensors: &Shapes) -> Result<ModelSpec, ModelError> {
    from_gguf(metadata, tensors, &SpecOptions::default())
}

/// `metadata` with some values of its keys replaced or added.
fn edited(metadata: &Metadata, values: &[(&str, gguf::Value)]) -> Metadata {
    let mut writer = gguf::Writer::new();
    writer.copy_metadata(metadata);
    for (key, value) in values {
        writer.set(key, value.clone());
    }
    let bytes = writer.begin(Vec::new()).and_then(|body| body.finish()).unwrap();
    Metadata::from_bytes("edited.gguf", &bytes).unwrap()
}

fn asking(context: usize) -> SpecOptions {
    SpecOptions { context: Some(context) }
}

fn attention(spec: &ModelSpec, layer: usize) -> &Attention {
    match &spec.layers[layer].mixer {
        Mixer::Attention(attention) => attention,
    }
}

fn windows(spec: &ModelSpec) -> Vec<Option<usize>> {
    (0..spec.layers.len()).map(|layer| attention(spec, layer).window).collect()
}

/// A Llama of one layer and one head.
fn one_head(head_dim: usize, positions: usize) -> (Value, Shapes) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "head_dim": head_dim,
        "max_position_embeddings": positions,
        "rms_norm_eps": 1e-5,
    });
    let shapes = [
        ("model.embed_tokens.weight", vec![32, 8]),
        ("model.norm.weight", vec![8]),
        ("model.layers.0.input_layernorm.weight", vec![8]),
        ("model.layers.0.post_attention_layernorm.weight", vec![8]),
        ("model.layers.0.self_attn.q_proj.weight", vec![head_dim, 8]),
        ("model.layers.0.self_attn.k_proj.weight", vec![head_dim, 8]),
        ("model.layers.0.self_attn.v_proj.weight", vec![head_dim, 8]),
        ("model.layers.0.self_attn.o_proj.weight", vec![8, head_dim]),
        ("model.layers.0.mlp.gate_proj.weight", vec![16, 8]),
        ("model.layers.0.mlp.up_proj.weight", vec![16, 8]),
        ("model.layers.0.mlp.down_proj.weight", vec![8, 16]),
    ];
    (config, Shapes(shapes.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect()))
}
