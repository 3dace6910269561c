//! The guide's weights in the forms that other programs have models in, made from its GGUF file: a folder of safetensors in
//! BF16 or F32, and MLX's affine quantisation with groups of 64.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::bf16;
use perch_model::{Checkpoint, Weight};
use serde_json::{Map, Value, json};

/// Elements that share a scale.
const GROUP: usize = 64;

/// How the matrices are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    F32,
    Bf16,
    /// MLX, so many bits.
    Mlx(u32),
}

/// GGUF's names of what stands in a layer, and those of transformers.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Writes the model of `gguf` into `folder`.
pub(crate) fn write(gguf: &Path, folder: &Path, form: Form) {
    let checkpoint = Checkpoint::open(gguf).unwrap();
    fs::create_dir_all(folder).unwrap();
    let file = |name: &str, value: &Value| fs::write(folder.join(name), value.to_string()).unwrap();
    file("config.json", &config(&checkpoint, form));
    file("tokenizer.json", &tokenizer(&checkpoint));
    let template = checkpoint.gguf_metadata().unwrap().get_str("tokenizer.chat_template").unwrap();
    file(
        "tokenizer_config.json",
        &json!({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>",
        "add_bos_token": false, "chat_template": template}),
    );
    let mut tensors = Tensors::default();
    for stored in checkpoint.stored() {
        let values = checkpoint.load(&Weight::new(stored.name), None).unwrap().values();
        let name = name(stored.name);
        match (form, stored.shape) {
            (Form::Mlx(bits), &[rows, cols]) => tensors.affine(&name, &values, [rows, cols], bits),
            (Form::Bf16, _) => tensors.add(
                name,
                "BF16",
                stored.shape,
                values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()),
            ),
            (Form::F32 | Form::Mlx(_), _) => {
                tensors.add(name, "F32", stored.shape, values.iter().copied().flat_map(f32::to_le_bytes));
            }
        }
    }
    tensors.write(&folder.join("model.safetensors"));
}

fn name(gguf: &str) -> String {
    match gguf {
        "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => "model.norm.weight".to_owned(),
        _ => {
            let (layer, part) = gguf.strip_prefix("blk.").unwrap().split_once('.').unwrap();
            let part = part.strip_suffix(".weight").unwrap();
            let (_, part) = PARTS.iter().find(|(ours, _)| *ours == part).unwrap();
            format!("model.layers.{layer}.{part}.weight")
        }
    }
}

fn config(checkpoint: &Checkpoint, form: Form) -> Value {
    let metadata = checkpoint.gguf_metadata().unwrap();
    let number = |key: &str| metadata.get_u64(&format!("qwen3.{key}")).unwrap();
    let mut config = json!({
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": metadata.get_strs("tokenizer.ggml.tokens").unwrap().len(),
        "hidden_size": number("embedding_length"),
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": number("attention.head_count"),
        "num_key_value_heads": number("attention.head_count_kv"),
        "head_dim": number("attention.key_length"),
        "max_position_embeddings": number("context_length"),
        "rope_theta": metadata.get_f32("qwen3.rope.freq_base").unwrap(),
        "rms_norm_eps": metadata.get_f32("qwen3.attention.layer_norm_rms_epsilon").unwrap(),
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "eos_token_id": metadata.get_u64("tokenizer.ggml.eos_token_id").unwrap(),
    });
    if let Form::Mlx(bits) = form {
        config["quantization"] = json!({"group_size": GROUP, "bits": bits, "mode": "affine"});
    }
    config
}

/// tokenizer.json of a byte-level BPE with Qwen2's way of cutting words.
fn tokenizer(checkpoint: &Checkpoint) -> Value {
    const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const NORMAL: i64 = 1;
    const CONTROL: i64 = 3;
    let metadata = checkpoint.gguf_metadata().unwrap();
    let kinds = metadata.get_i64s("tokenizer.ggml.token_type").unwrap();
    let (mut vocab, mut added) = (Map::new(), Vec::new());
    for ((id, text), kind) in metadata.get_strs("tokenizer.ggml.tokens").unwrap().enumerate().zip(kinds) {
        match kind {
            NORMAL => drop(vocab.insert(text.to_owned(), id.into())),
            kind => added
                .push(json!({"id": id, "content": text, "special": kind == CONTROL, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false})),
        }
    }
    let merges: Vec<&str> = metadata.get_strs("tokenizer.ggml.merges").unwrap().collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

/// A safetensors file to be.
#[derive(Default)]
struct Tensors {
    header: BTreeMap<String, Value>,
    data: Vec<u8>,
}

impl Tensors {
    fn add(&mut self, name: String, dtype: &str, shape: &[usize], bytes: impl Iterator<Item = u8>) {
        let start = self.data.len();
        self.data.extend(bytes);
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()]});
        self.header.insert(name, entry);
    }

    /// As `mlx.core.quantize` has it: the lower edge of a group and its steps.
    fn affine(&mut self, name: &str, values: &[f32], [rows, cols]: [usize; 2], bits: u32) {
        let most = ((1u32 << bits) - 1) as f32;
        let base = name.strip_suffix(".weight").unwrap();
        let (mut words, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
        for group in values.chunks(GROUP) {
            let low = group.iter().copied().fold(f32::INFINITY, f32::min);
            let high = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let scale = ((high - low) / most).max(1e-7);
            for part in group.chunks(32 / bits as usize) {
                let steps = part.iter().map(|x| ((x - low) / scale).round().clamp(0.0, most) as u32);
                words.push(steps.enumerate().fold(0u32, |word, (i, step)| word | step << (i as u32 * bits)));
            }
            scales.push(scale);
            biases.push(low);
        }
        let bytes = |values: Vec<f32>| values.into_iter().flat_map(f32::to_le_bytes);
        let words = words.into_iter().flat_map(u32::to_le_bytes);
        self.add(name.to_owned(), "U32", &[rows, cols * bits as usize / 32], words);
        self.add(format!("{base}.scales"), "F32", &[rows, cols / GROUP], bytes(scales));
        self.add(format!("{base}.biases"), "F32", &[rows, cols / GROUP], bytes(biases));
    }

    fn write(&self, path: &Path) {
        let mut header = json!(self.header).to_string();
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &self.data].concat();
        fs::write(path, bytes).unwrap();
    }
}
