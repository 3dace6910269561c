//! How byte-level BPE vocabularies in GGUF cut text into words before merging, by `tokenizer.ggml.pre`.
//!
//! The patterns are those of the models' own `tokenizer.json` files, under the names that llama.cpp's converter gives
//! them. Each pattern in turn cuts every piece that the ones before it left; matches and gaps both become pieces.

use super::cut::Cutter;
use crate::TextError;

/// A family's way of cutting words.
pub(super) struct PreTokenizer {
    patterns: Vec<String>,
    /// A word that is itself a token is taken whole, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether BOS goes in front where the file does not say.
    pub(super) add_bos: bool,
}

pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CONTRACTIONS: &str = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
const SPACES: &str = r"\s*[\r\n]+|\s+(?!\S)|\s+";
const SYMBOLS: &str = r" ?[^\s\p{L}\p{N}]+[\r\n]*";
const UPPER: &str = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
const LOWER: &str = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
const IDEOGRAPHS: &str = "[一-龥ࠀ-一가-퟿]+";
/// The letters that DeepSeek LLM's file lists: those with case, as of Unicode 10.
const CASED: &str = "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]";

/// The pre-tokenizer of this name, or `None` where it is not known.
pub(super) fn by_name(name: &str) -> Option<PreTokenizer> {
    let gpt2 = || vec![GPT2.to_owned()];
    let digits_then_gpt2 = || vec![r"\p{N}".to_owned(), GPT2.to_owned()];
    let (patterns, ignore_merges, add_bos) = match name {
        "default" => (
            vec![r"[\p{P}\$\+<=>\^~\|]+".into(), GPT2.into(), r"\p{N}+".into(), "[0-9][0-9][0-9]".into()],
            false,
            false,
        ),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => (vec![words(r"\p{L}", r"\p{N}{1,3}")], true, true),
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => (vec![words(r"\p{L}", r"\p{N}{1,3}")], false, false),
        "glm4" | "glm5" => (vec![words(r"\p{L}", r"\p{N}{1,3}")], true, false),
        "qwen2" | "kormo" | "f2llmv2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" | "hunyuan"
        | "grok-2" | "solar-open" => (vec![words(r"\p{L}", r"\p{N}")], false, false),
        "qwen35" => (
            vec![format!(
                r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
            )],
            false,
            false,
        ),
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => {
            (vec![cased_words(CONTRACTIONS, r"\p{N}{1,3}")], false, false)
        }
        "tekken" => (vec![cased_words("", r"\p{N}")], true, true),
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "jina-v2-es" | "jina-v2-de" | "jina-v1-en"
        | "jina-v2-code" | "roberta-bpe" | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert" | "mpt"
        | "olmo" | "jais" | "trillion" | "granite-docling" | "exaone4" => (gpt2(), false, false),
        "starcoder" | "refact" | "command-r" | "smollm" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => (digits_then_gpt2(), false, false),
        "falcon" => {
            (vec![r"[\p{P}\$\+<=>\^~\|`]+".into(), GPT2.into(), "[0-9][0-9][0-9]".into()], false, false)
        }
        "deepseek-llm" => (
            vec![
                r"[\r\n]".into(),
                format!(r"\s?{CASED}+"),
                r"\s?[!-/:-~！-／：-～‘-‟　-。]+".into(),
                r"\s+$".into(),
                IDEOGRAPHS.into(),
                r"\p{N}+".into(),
            ],
            false,
            false,
        ),
        "deepseek-coder" => (
            vec![
                r"[\r\n]".into(),
                r"\s?\p{L}+".into(),
                r"\s?\p{P}+".into(),
                IDEOGRAPHS.into(),
                r"\p{N}".into(),
            ],
            false,
            false,
        ),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => (
            vec![
                r"\p{N}{1,3}".into(),
                "[一-龥぀-ゟ゠-ヿ]+".into(),
                format!(
                    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{{|}}~][A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}"##
                ),
            ],
            false,
            false,
        ),
        "minicpm5" => (vec![r"\p{N}{1,3}".into(), words(r"\p{L}", r"\p{N}+")], true, false),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => (
            vec![format!(
                r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{SYMBOLS}|\s*[\r\n]|\s+(?!\S)|\s+"
            )],
            false,
            false,
        ),
        "poro-chat" | "bloom" | "gpt3-finnish" => (vec![r" ?[^(\s|.,!?…。，、।۔،)]+".into()], false, false),
        "viking" => (vec![r" ?[^(\s|.,!?…。，、।۔،)]+".into(), r"\p{N}".into()], false, false),
        "seed-coder" => (
            vec![format!(
                r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}"
            )],
            false,
            false,
        ),
        _ => return None,
    };
    Some(PreTokenizer { patterns, ignore_merges, add_bos })
}

/// The pattern that GPT-4 began: contractions, words with one leading symbol, digits, symbols, spaces.
fn words(letter: &str, digits: &str) -> String {
    format!(r"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{letter}+|{digits}|{SYMBOLS}|{SPACES}")
}

/// GPT-4o's: as above, but a word also ends where lower case turns to upper.
fn cased_words(suffix: &str, digits: &str) -> String {
    let suffix = if suffix.is_empty() { String::new() } else { format!("{suffix}?") };
    let lead = r"[^\r\n\p{L}\p{N}]?";
    format!(
        r"{lead}{UPPER}*{LOWER}+{suffix}|{lead}{UPPER}+{LOWER}*{suffix}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"
    )
}

impl PreTokenizer {
    /// The cuts themselves.
    pub(super) fn cutter(&self) -> Result<Cutter, TextError> {
        Cutter::new(&self.patterns)
    }
}
