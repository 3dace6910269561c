//! A folder's tokenizer as GGUF metadata. It is written only if it then gives the same tokens as the original: GGUF
//! names a way of cutting words and does not describe one, so each known way is tried on a text that tells them apart.

use std::fs;

use anyhow::{Context, Result, bail};
use perch_model::Checkpoint;
use perch_model::gguf::Writer;
use perch_text::{GgufVocab, Special, Tokenizer};
use serde_json::Value;

/// The names of the ways to cut words, the commonest first.
const CUTS: [&str; 16] = [
    "qwen2",
    "llama-bpe",
    "gpt-2",
    "gpt-4o",
    "tekken",
    "smollm",
    "dbrx",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "falcon",
    "starcoder",
    "command-r",
    "qwen35",
    "chatglm-bpe",
    "default",
];

/// What tells the ways apart: cases, digits, spaces, line ends, scripts, marks, contractions, code, emoji.
const SAMPLES: [&str; 14] = [
    "Hello, world! It's 1 12 123 1234 12345 123456 years; I'LL we'Ve don't",
    "   leading,  double,\ttabs\t\tand trailing   ",
    "\n\n\nlines\r\n\r\n \n  x\n",
    "fn main() { let x_1 = 0xFF + 3.14e-10; } // ==> != <= && ||\n\t\treturn x;",
    "Ünïcödé ÀÉÎ straße naïve Ａ１ Ⅷ ½ ²",
    "日本語のテキスト、中文字符。한국어 문장",
    "Привет, мир! Ελληνικά שלום مرحبا नमस्ते ไทย",
    "🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ 🦙🦙 3 33 333",
    "e\u{301}a\u{300} \u{200b}zero\u{a0}width ﷽ \u{3000}wide",
    "''''''```````\"\"\"\"......!!!!!!?????? camelCaseWord XMLHttpRequest",
    "http://example.com/a?b=c&d=%20#frag user@mail.org C:\\path\\file.txt",
    "1,000,000.50 $5 €7 50% 2024-01-31T12:34:56Z +49 (0)30",
    "a\u{0}b\u{7}c \u{feff}bom",
    "",
];

/// Added tokens that are tried.
const MARKS: usize = 40;

/// Writes everything under `tokenizer.`, for an embedding of `width` rows.
///
/// # Errors
/// Where the tokenizer is of a kind that GGUF cannot hold, or no known way of cutting gives its tokens.
pub(super) fn write(header: &mut Writer, checkpoint: &Checkpoint, width: usize) -> Result<()> {
    let path = checkpoint
        .path_of("tokenizer.json")
        .context("its folder has no tokenizer.json; only that is taken over")?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let config: Option<Value> = side_file(checkpoint, "tokenizer_config.json")?;
    let original = Tokenizer::from_tokenizer_json(&bytes, config.as_ref())?;
    let json: Value = serde_json::from_slice(&bytes)?;
    let marks: Vec<&str> =
        json["added_tokens"].as_array().into_iter().flatten().filter_map(|t| t["content"].as_str()).collect();
    // Added tokens within text, at its ends and side by side, with and without spaces.
    let marked = marks
        .iter()
        .take(MARKS)
        .map(|mark| format!("{mark}a {mark} b{mark}{mark}\n{mark}"))
        .collect::<String>();
    let vocab = fitting(candidates(&json, &original, width)?, &original, &marked)?;

    let ids = |name: &str| format!("tokenizer.ggml.{name}");
    header.set(&ids("model"), vocab.model.as_str());
    header.set(&ids("pre"), vocab.pre.as_deref().unwrap_or("default"));
    let tokens: Vec<&str> = vocab.tokens.iter().map(String::as_str).collect();
    header.set(&ids("tokens"), &tokens[..]).set(&ids("token_type"), &vocab.token_types[..]);
    if !vocab.scores.is_empty() {
        header.set(&ids("scores"), &vocab.scores[..]);
    }
    if !vocab.merges.is_empty() {
        let merges: Vec<&str> = vocab.merges.iter().map(String::as_str).collect();
        header.set(&ids("merges"), &merges[..]);
    }
    let special = [("bos", vocab.bos), ("eos", vocab.eos), ("unknown", vocab.unk), ("padding", vocab.pad)];
    for (name, id) in special {
        if let Some(id) = id {
            header.set(&ids(&format!("{name}_token_id")), id);
        }
    }
    let flags = [
        ("bos_token", vocab.add_bos),
        ("eos_token", vocab.add_eos),
        ("space_prefix", vocab.add_space_prefix),
    ];
    for (name, flag) in flags {
        if let Some(flag) = flag {
            header.set(&ids(&format!("add_{name}")), flag);
        }
    }
    template(header, checkpoint, config.as_ref())
}

/// The chat templates: the file of its own, else those of tokenizer_config.json.
fn template(header: &mut Writer, checkpoint: &Checkpoint, config: Option<&Value>) -> Result<()> {
    const KEY: &str = "tokenizer.chat_template";
    if let Some(path) = checkpoint.path_of("chat_template.jinja") {
        header.set(KEY, fs::read_to_string(path)?.as_str());
        return Ok(());
    }
    let own = side_file(checkpoint, "chat_template.json")?;
    match config.and_then(|config| config.get("chat_template")).or_else(|| own.as_ref()?.get("chat_template"))
    {
        Some(Value::String(source)) => {
            header.set(KEY, source.as_str());
        }
        Some(Value::Array(named)) => {
            for (name, source) in
                named.iter().filter_map(|one| Some((one["name"].as_str()?, one["template"].as_str()?)))
            {
                let key = if name == "default" { KEY.to_owned() } else { format!("{KEY}.{name}") };
                header.set(&key, source);
            }
        }
        _ => {}
    }
    Ok(())
}

fn side_file(checkpoint: &Checkpoint, name: &str) -> Result<Option<Value>> {
    let Some(path) = checkpoint.path_of(name) else { return Ok(None) };
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?))
}

/// The vocabularies that may be the same tokenizer.
fn candidates(json: &Value, original: &Tokenizer, width: usize) -> Result<Vec<GgufVocab>> {
    let model = &json["model"];
    let merges = merges(model);
    if merges.is_empty() || model["type"].as_str().is_some_and(|kind| kind != "BPE") {
        bail!("its tokenizer is {}, which is not taken over; BPE is", model["type"]);
    }
    let spells_bytes = model["byte_fallback"] == true;
    let size = width.max(original.vocab_size());
    let unk = original.unk().or_else(|| original.special_id(model["unk_token"].as_str()?));
    let added =
        |id: u32| json["added_tokens"].as_array().into_iter().flatten().find(|token| token["id"] == id);
    let mut vocab = GgufVocab {
        bos: original.bos(),
        eos: original.eos(),
        pad: original.pad(),
        unk,
        ..GgufVocab::default()
    };
    for id in 0..size as u32 {
        let text = original.token_text(id);
        let kind = match (text, added(id)) {
            (None, _) => 5,
            _ if spells_bytes && Some(id) == unk => 2,
            (_, Some(token)) if token["special"] == true => 3,
            (_, Some(_)) => 4,
            (Some(text), None) if spells_bytes && is_byte(text) => 6,
            _ => 1,
        };
        vocab.tokens.push(text.map_or_else(|| format!("[PAD{id}]"), str::to_owned));
        vocab.token_types.push(kind);
    }
    let ends = original.encode("x", Special { add: true, parse: false })?;
    vocab.add_bos = Some(original.adds_bos());
    vocab.add_eos = Some(original.eos().is_some_and(|eos| ends.last() == Some(&eos)));
    if !spells_bytes {
        vocab.model = "gpt2".to_owned();
        vocab.merges = merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        return Ok(CUTS.map(|pre| GgufVocab { pre: Some(pre.to_owned()), ..vocab.clone() }).into());
    }
    // SentencePiece joins the pair whose token has the best score; a merge's rank says the same.
    vocab.model = "llama".to_owned();
    let mut ranks = std::collections::HashMap::new();
    for (rank, (left, right)) in merges.iter().enumerate() {
        ranks.entry(format!("{left}{right}")).or_insert(rank);
    }
    let worst = merges.len();
    vocab.scores = vocab.tokens.iter().map(|text| -(*ranks.get(text).unwrap_or(&worst) as f32)).collect();
    Ok([true, false].map(|prefix| GgufVocab { add_space_prefix: Some(prefix), ..vocab.clone() }).into())
}

/// Pairs, best first, in either of the ways that they are written.
fn merges(model: &Value) -> Vec<(String, String)> {
    let pair = |merge: &Value| match merge {
        Value::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
        Value::Array(pair) => Some((pair.first()?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned())),
        _ => None,
    };
    model["merges"].as_array().into_iter().flatten().filter_map(pair).collect()
}

fn is_byte(text: &str) -> bool {
    text.len() == 6 && text.starts_with("<0x") && text.ends_with('>')
}

/// The first candidate that gives the same tokens for every sample.
fn fitting(candidates: Vec<GgufVocab>, original: &Tokenizer, marked: &str) -> Result<GgufVocab> {
    for vocab in candidates {
        let Ok(tokenizer) = Tokenizer::from_gguf(vocab.clone()) else { continue };
        let same = |text: &str| {
            [true, false].into_iter().all(|flag| {
                let special = Special { add: flag, parse: !flag };
                matches!((original.encode(text, special), tokenizer.encode(text, special)), (Ok(a), Ok(b)) if a == b)
            })
        };
        if SAMPLES.iter().all(|text| same(text)) && same(marked) {
            return Ok(vocab);
        }
    }
    bail!("its tokenizer cuts text in a way that GGUF has no name for; quantise on load instead")
}
