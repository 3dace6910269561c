//! Tiny models on disk: a Llama of a few kilobytes whose tokens are single bytes, so that a test can say in plain text
//! what it writes.

use std::path::Path;

use serde_json::{Value, json};

/// Special tokens, from id 256 on.
pub(crate) const SPECIAL: [&str; 12] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<|unused|>",
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
];
pub(crate) const VOCAB: usize = 256 + SPECIAL.len();
pub(crate) const IM_START: u32 = 257;
pub(crate) const IM_END: u32 = 258;
/// Longest sequence.
pub(crate) const CONTEXT: usize = 2048;

/// ChatML with tools and thinking, in the manner of Qwen3.
pub(crate) const TEMPLATE: &str = "{%- if tools %}<|im_start|>system
{{ messages[0].content if messages[0].role == 'system' else '' }}# Tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{%- for message in messages %}{%- if not (tools and loop.first and message.role == 'system') %}\
<|im_start|>{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\
<|im_end|>
{% endif %}{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{%- endif %}";

/// Writes the model into `dir`.
pub(crate) fn write_model(dir: &Path) {
    write_model_with(dir, Some(TEMPLATE));
}

/// The same with another template, or none.
pub(crate) fn write_model_with(dir: &Path, template: Option<&str>) {
    std::fs::create_dir_all(dir).unwrap();
    let write = |name: &str, value: &Value| std::fs::write(dir.join(name), value.to_string()).unwrap();
    write("config.json", &config());
    write("generation_config.json", &json!({"eos_token_id": [256, IM_END], "temperature": 0.0}));
    write("tokenizer.json", &tokenizer());
    let mut tokenizer_config =
        json!({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"});
    if let Some(template) = template {
        tokenizer_config["chat_template"] = template.into();
    }
    write("tokenizer_config.json", &tokenizer_config);
    std::fs::write(dir.join("model.safetensors"), safetensors()).unwrap();
}

const HIDDEN: usize = 8;
const FF: usize = 16;

fn config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": FF,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "vocab_size": VOCAB, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "hidden_act": "silu", "torch_dtype": "float32"
    })
}

/// The letters that stand for bytes in a byte-level vocabulary, as GPT-2 laid them out.
fn byte_letters() -> Vec<char> {
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut next = 256;
    let letter = |b: u32| {
        let code = if printable(b) {
            b
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap()
    };
    (0..256).map(letter).collect()
}

fn tokenizer() -> Value {
    let vocab: serde_json::Map<String, Value> =
        byte_letters().into_iter().enumerate().map(|(id, letter)| (letter.to_string(), id.into())).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(i, text)| {
            json!({"id": 256 + i, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": !text.contains("think")})
        })
        .collect();
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []}
    })
}

fn safetensors() -> Vec<u8> {
    let layer = "model.layers.0";
    let shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![VOCAB, HIDDEN]),
        (format!("{layer}.input_layernorm.weight"), vec![HIDDEN]),
        (format!("{layer}.self_attn.q_proj.weight"), vec![8, HIDDEN]),
        (format!("{layer}.self_attn.k_proj.weight"), vec![4, HIDDEN]),
        (format!("{layer}.self_attn.v_proj.weight"), vec![4, HIDDEN]),
        (format!("{layer}.self_attn.o_proj.weight"), vec![HIDDEN, 8]),
        (format!("{layer}.post_attention_layernorm.weight"), vec![HIDDEN]),
        (format!("{layer}.mlp.gate_proj.weight"), vec![FF, HIDDEN]),
        (format!("{layer}.mlp.up_proj.weight"), vec![FF, HIDDEN]),
        (format!("{layer}.mlp.down_proj.weight"), vec![HIDDEN, FF]),
        ("model.norm.weight".into(), vec![HIDDEN]),
    ];
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.resize(file.len() + end, 0);
    file
}
