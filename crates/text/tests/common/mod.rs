//! The goldens that the scripts in `tests/goldens` make, and the tokenizers in them.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod answer;

use std::path::PathBuf;

use base64::Engine as _;
use perch_text::{GgufVocab, Special, Tokenizer};
use serde_json::Value;

/// Special tokens in the text are text.
pub const PLAIN: Special = Special { add: false, parse: false };
/// Special tokens in the text are tokens.
pub const PARSED: Special = Special { add: false, parse: true };

pub fn golden(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

pub fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

pub fn unbase64(value: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap()
}

/// GGUF metadata from the goldens' plain data.
pub fn gguf(value: &Value) -> GgufVocab {
    let texts = |key: &str| value.get(key).map(strings).unwrap_or_default();
    let id = |key: &str| value[key].as_u64().map(|id| id as u32);
    GgufVocab {
        model: value["model"].as_str().unwrap().to_owned(),
        pre: value["pre"].as_str().map(str::to_owned),
        tokens: texts("tokens"),
        scores: value["scores"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| s.as_f64().unwrap() as f32)
            .collect(),
        token_types: value["token_types"]
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t.as_i64().unwrap() as i32)
            .collect(),
        merges: texts("merges"),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unk"),
        sep: id("sep"),
        pad: id("pad"),
        add_space_prefix: value["add_space_prefix"].as_bool(),
        remove_extra_whitespaces: value["remove_extra_whitespaces"].as_bool(),
        ..GgufVocab::default()
    }
}

/// A byte-level tokenizer with ChatML's tokens and `<think>`.
pub fn chatml_tokenizer() -> Tokenizer {
    let all = golden("tokenizers.json");
    let vocab = GgufVocab { pre: Some("qwen2".into()), ..gguf(&all["byte_level"]["gguf"]) };
    Tokenizer::from_gguf(vocab).unwrap()
}

/// A small byte-level tokenizer that has these special tokens and can say any text, byte by byte.
pub fn tokenizer_with(specials: &[&str]) -> Tokenizer {
    let all = golden("tokenizers.json");
    let mut vocab = gguf(&all["byte_level"]["gguf"]);
    for special in specials {
        vocab.tokens.push((*special).to_owned());
        vocab.token_types.push(3);
    }
    Tokenizer::from_gguf(vocab).unwrap()
}
