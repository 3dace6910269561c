//! Small checkpoints for tests: a Llama of two layers, as GGUF and as safetensors, and folders to put files in.

#![allow(dead_code, unreachable_pub, reason = "every test binary has its own copy and uses its own part")]

use std::path::{Path, PathBuf};

use perch_model::gguf::Writer;
use perch_model::quant::quantize_row;
use perch_model::{Checkpoint, DType, ModelError};
use serde_json::json;
use tempfile::TempDir;

pub const HIDDEN: usize = 64;
pub const FF: usize = 96;
pub const LAYERS: usize = 2;
pub const VOCAB: usize = 32;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;

/// A folder that is gone when the test is.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        // Some file systems sync a file that is truncated and written again, at a cost of milliseconds each time.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).expect("a file");
        path
    }

    /// Opens what a file with these bytes is.
    pub fn open(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<Checkpoint, ModelError> {
        Checkpoint::open(self.write(name, bytes))
    }
}

/// Numbers that look like weights and are the same every time.
pub fn weights(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| (random.next() % 2000) as f32 / 1e4 - 0.1).collect()
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; dtype.row_bytes(values.len()).expect("whole blocks")];
    assert!(quantize_row(dtype, values, &mut bytes));
    bytes
}

pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    perch_model::quant::dequantize_row(dtype, bytes, &mut values);
    values
}

/// A GGUF file in memory.
pub fn gguf(
    metadata: impl FnOnce(&mut Writer),
    tensors: &[(impl AsRef<str>, DType, Vec<usize>, Vec<u8>)],
) -> Vec<u8> {
    let mut writer = Writer::new();
    metadata(&mut writer);
    for (name, dtype, shape, _) in tensors {
        writer.declare(name.as_ref(), *dtype, shape).expect("a tensor that GGUF can hold");
    }
    let mut body = writer.begin(Vec::new()).expect("memory");
    for (.., bytes) in tensors {
        body.write(bytes).expect("as many bytes as declared");
    }
    body.finish().expect("all tensors")
}

pub fn llama_metadata(writer: &mut Writer) {
    let tokens: Vec<String> = (0..VOCAB).map(|i| format!("<{i}>")).collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    writer
        .set("general.architecture", "llama")
        .set("general.file_type", 7u32)
        .set("llama.block_count", LAYERS as u32)
        .set("llama.context_length", 128u32)
        .set("llama.embedding_length", HIDDEN as u32)
        .set("llama.feed_forward_length", FF as u32)
        .set("llama.attention.head_count", HEADS as u32)
        .set("llama.attention.head_count_kv", KV_HEADS as u32)
        .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
        .set("llama.rope.dimension_count", (HIDDEN / HEADS) as u32)
        .set("llama.rope.freq_base", 10_000f32)
        .set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", tokens.as_slice())
        .set("tokenizer.ggml.scores", &[0.0f32; VOCAB][..])
        .set("tokenizer.ggml.token_type", &[1i32; VOCAB][..]);
}

/// Names and shapes of a Llama's tensors, in GGUF's and in Hugging Face's words.
pub fn llama_tensors() -> Vec<(String, String, Vec<usize>)> {
    let kv = HIDDEN / HEADS * KV_HEADS;
    let mut tensors = vec![
        ("token_embd.weight".to_owned(), "model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("output_norm.weight".to_owned(), "model.norm.weight".to_owned(), vec![HIDDEN]),
    ];
    let parts: [(&str, &str, &[usize]); 9] = [
        ("attn_norm", "input_layernorm", &[HIDDEN]),
        ("attn_q", "self_attn.q_proj", &[HIDDEN, HIDDEN]),
        ("attn_k", "self_attn.k_proj", &[kv, HIDDEN]),
        ("attn_v", "self_attn.v_proj", &[kv, HIDDEN]),
        ("attn_output", "self_attn.o_proj", &[HIDDEN, HIDDEN]),
        ("ffn_norm", "post_attention_layernorm", &[HIDDEN]),
        ("ffn_gate", "mlp.gate_proj", &[FF, HIDDEN]),
        ("ffn_up", "mlp.up_proj", &[FF, HIDDEN]),
        ("ffn_down", "mlp.down_proj", &[HIDDEN, FF]),
    ];
    for layer in 0..LAYERS {
        for (gguf, hf, shape) in parts {
            let names = (format!("blk.{layer}.{gguf}.weight"), format!("model.layers.{layer}.{hf}.weight"));
            tensors.push((names.0, names.1, shape.to_vec()));
        }
    }
    tensors
}

/// A whole small Llama as GGUF: Q8_0 matrices, F32 norms.
pub fn llama_gguf() -> Vec<u8> {
    let tensors: Vec<_> = llama_tensors()
        .into_iter()
        .enumerate()
        .map(|(i, (name, _, shape))| {
            let dtype = if shape.len() == 1 { DType::F32 } else { DType::Q8_0 };
            let bytes = encode(dtype, &weights(i as u64, shape.iter().product()));
            (name, dtype, shape, bytes)
        })
        .collect();
    gguf(llama_metadata, &tensors)
}

pub fn llama_config() -> serde_json::Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": FF,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "hidden_act": "silu",
    })
}

/// The same Llama as one safetensors file of BF16.
pub fn llama_safetensors() -> Vec<u8> {
    let tensors: Vec<_> = llama_tensors()
        .into_iter()
        .enumerate()
        .map(|(i, (_, name, shape))| {
            let bytes = encode(DType::BF16, &weights(i as u64, shape.iter().product()));
            (name, "BF16", shape, bytes)
        })
        .collect();
    safetensors(&tensors)
}

/// A safetensors file in memory.
pub fn safetensors(tensors: &[(impl AsRef<str>, &str, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name.as_ref().to_owned(), entry);
    }
    with_header(&serde_json::Value::Object(header).to_string(), &data)
}

/// A safetensors file of this header and these data.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// The reason of an error about a damaged file.
pub fn reason(result: Result<Checkpoint, ModelError>) -> String {
    match result {
        Err(ModelError::InvalidFile { reason, .. }) => reason,
        other => panic!("an error about a damaged file, not {other:?}"),
    }
}

/// The folder of real small models, where this machine has one: `PERCH_SHARED_MODELS`, or `shared/models` beside the
/// workspace.
pub fn real_models() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models");
    let folder = std::env::var_os("PERCH_SHARED_MODELS").map_or_else(beside, PathBuf::from);
    let found = folder.is_dir().then_some(folder);
    if found.is_none() {
        eprintln!("skipped: there are no real models; PERCH_SHARED_MODELS can name a folder of them");
    }
    found
}
