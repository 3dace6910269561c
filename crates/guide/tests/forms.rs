//! The same weights in every form that Perch reads: GGUF Q8_0 as embedded, safetensors in f32 and bf16, MLX in 8 and 4 bits,
//! all made here from the embedded file. They must say the same.

use std::path::Path;
use std::sync::Arc;

use half::{bf16, f16};
use perch_backend_candle::{CandleBackend, LoadOptions, Pool};
use perch_engine::{Backend, Run, SeqId, Wanted};
use perch_model::gguf::Metadata;
use perch_model::quant::dequantize_row;
use perch_model::{Checkpoint, TensorIndex, Weight};
use serde_json::{Map, Value, json};

const PROMPT: &str =
    "<|im_start|>user\nWhich port does Perch use?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
const ANSWER: usize = 24;

#[test]
fn all_forms_of_the_weights_agree_on_a_text() {
    let embedded = Checkpoint::open_static("guide", perch_guide::GGUF).unwrap();
    let metadata = embedded.gguf_metadata().unwrap();
    let prompt = encode(metadata, PROMPT);
    let mut model = load(&embedded);
    let text = greedy(&mut model, &prompt);
    let tokens: Vec<u32> = prompt.iter().chain(&text).copied().collect();
    let expected = logits(&mut model, &tokens);

    let folder = tempfile::tempdir().unwrap();
    // The largest distance of a logit (they lie within about ±20), and the share of positions where the likeliest token
    // is the same, also within the question, of which the model has learnt nothing: exact but for the rounding of activations,
    // then of weights.
    for (form, distance, agreement) in
        [(Form::F32, 0.5, 0.93), (Form::Bf16, 0.6, 0.93), (Form::Mlx(8), 1.0, 0.9), (Form::Mlx(4), 15.0, 0.6)]
    {
        let path = folder.path().join(format!("{form:?}"));
        write(&embedded, form, &path);
        let mut model = load(&Checkpoint::open(&path).unwrap());
        let got = logits(&mut model, &tokens);
        let far = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let same = agree(&got, &expected, tokens.len());
        assert!(far <= distance && same >= agreement, "{form:?}: {far} apart, {same} alike");
    }
}

#[derive(Debug, Clone, Copy)]
enum Form {
    F32,
    Bf16,
    Mlx(u32),
}

fn load(checkpoint: &Checkpoint) -> CandleBackend {
    CandleBackend::load(checkpoint, &LoadOptions::new(Arc::new(Pool::new(2)))).unwrap()
}

fn greedy(model: &mut CandleBackend, prompt: &[u32]) -> Vec<u32> {
    let seq = SeqId(1);
    model.open(seq, &[]).unwrap();
    let (mut tokens, mut position, mut text) = (prompt.to_vec(), 0, Vec::new());
    while text.len() < ANSWER {
        let run = Run { seq, tokens: &tokens, position, wanted: Wanted::Last };
        let next = likeliest(&model.forward(&[run]).unwrap());
        position += tokens.len();
        tokens = vec![next];
        text.push(next);
    }
    model.close(seq);
    text
}

fn logits(model: &mut CandleBackend, tokens: &[u32]) -> Vec<f32> {
    let seq = SeqId(2);
    model.open(seq, &[]).unwrap();
    let rows = model.forward(&[Run { seq, tokens, position: 0, wanted: Wanted::All }]).unwrap();
    model.close(seq);
    rows
}

fn likeliest(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32
}

fn agree(a: &[f32], b: &[f32], rows: usize) -> f32 {
    let vocab = a.len() / rows;
    let same = a.chunks(vocab).zip(b.chunks(vocab)).filter(|(a, b)| likeliest(a) == likeliest(b)).count();
    same as f32 / rows as f32
}

/// The text cut into the longest tokens there are: enough to compare models with, though not what BPE makes of it.
fn encode(metadata: &Metadata, text: &str) -> Vec<u32> {
    let vocab: Vec<&str> = metadata.get_strs("tokenizer.ggml.tokens").unwrap().collect();
    let text = text.replace(' ', "Ġ").replace('\n', "Ċ");
    let (mut rest, mut ids) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let fits = (0..vocab.len()).filter(|id| rest.starts_with(vocab[*id]));
        let id = fits.max_by_key(|id| vocab[*id].len()).expect("every byte is a token");
        ids.push(id as u32);
        rest = &rest[vocab[id].len()..];
    }
    ids
}

/// Writes the checkpoint as a Hugging Face folder.
fn write(from: &Checkpoint, form: Form, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let (mut header, mut body) = (Map::new(), Vec::new());
    let mut add = |name: &str, kind: &str, shape: &[usize], bytes: Vec<u8>| {
        let start = body.len();
        body.extend(bytes);
        header.insert(
            name.to_string(),
            json!({"dtype": kind, "shape": shape, "data_offsets": [start, body.len()]}),
        );
    };
    for name in from.names() {
        let shape = from.shape(name).unwrap();
        let tensor = from.load(&Weight::new(name), None).unwrap();
        let mut values = vec![0.0; tensor.rows() * tensor.cols()];
        dequantize_row(tensor.dtype(), tensor.bytes(), &mut values);
        let name = hf_name(name);
        match form {
            Form::F32 => {
                add(&name, "F32", shape, values.iter().flat_map(|v| v.to_le_bytes()).collect());
            }
            Form::Mlx(bits) if shape.len() == 2 => {
                let (words, scales, biases) = affine(&values, bits);
                let base = name.strip_suffix(".weight").unwrap();
                let (rows, cols) = (shape[0], shape[1]);
                add(&name, "U32", &[rows, cols * bits as usize / 32], words);
                add(&format!("{base}.scales"), "F16", &[rows, cols / GROUP], scales);
                add(&format!("{base}.biases"), "F16", &[rows, cols / GROUP], biases);
            }
            _ => {
                let halves = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
                add(&name, "BF16", shape, halves);
            }
        }
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = [&(header.len() as u64).to_le_bytes()[..], &header, &body].concat();
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
    std::fs::write(folder.join("config.json"), config(from, form).to_string()).unwrap();
}

const GROUP: usize = 64;

/// MLX' affine quantisation (`mlx/backend/cpu/quantized.cpp`): packed words, scales and biases, all little-endian.
fn affine(values: &[f32], bits: u32) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let top = ((1u32 << bits) - 1) as f32;
    let (mut words, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
    for group in values.chunks_exact(GROUP) {
        let (low, high) = group.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        let (scale, bias) = (f16::from_f32(((high - low) / top).max(1e-7)), f16::from_f32(low));
        for word in group.chunks_exact(32 / bits as usize) {
            let packed = word.iter().rev().fold(0u32, |packed, value| {
                let level = ((value - bias.to_f32()) / scale.to_f32()).round().clamp(0.0, top);
                packed << bits | level as u32
            });
            words.extend(packed.to_le_bytes());
        }
        scales.extend(scale.to_le_bytes());
        biases.extend(bias.to_le_bytes());
    }
    (words, scales, biases)
}

fn config(from: &Checkpoint, form: Form) -> Value {
    let metadata = from.gguf_metadata().unwrap();
    let whole = |key: &str| metadata.get_u64(&format!("qwen3.{key}")).unwrap();
    let float = |key: &str| metadata.get_f32(&format!("qwen3.{key}")).unwrap();
    let mut config = json!({
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": from.shape("token_embd.weight").unwrap()[0],
        "hidden_size": whole("embedding_length"),
        "intermediate_size": whole("feed_forward_length"),
        "num_hidden_layers": whole("block_count"),
        "num_attention_heads": whole("attention.head_count"),
        "num_key_value_heads": whole("attention.head_count_kv"),
        "head_dim": whole("attention.key_length"),
        "max_position_embeddings": whole("context_length"),
        "rope_theta": float("rope.freq_base"),
        "rms_norm_eps": float("attention.layer_norm_rms_epsilon"),
        "hidden_act": "silu",
        "tie_word_embeddings": true,
    });
    if let Form::Mlx(bits) = form {
        config["quantization"] = json!({"group_size": GROUP, "bits": bits});
    }
    config
}

fn hf_name(name: &str) -> String {
    let Some((layer, part)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
        let whole = if name == "token_embd.weight" { "embed_tokens" } else { "norm" };
        return format!("model.{whole}.weight");
    };
    let part = match part.strip_suffix(".weight").unwrap() {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => panic!("{other}"),
    };
    format!("model.layers.{layer}.{part}.weight")
}
