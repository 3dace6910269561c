//! A tokenizer from GGUF metadata: `GgufVocab` is the metadata as plain data, `build` makes the tokenizer.
//!
//! Kinds by `tokenizer.ggml.model`: `llama` (SentencePiece BPE), `gpt2` (byte-level BPE), `bert` (WordPiece), `t5`
//! (SentencePiece unigram). Defaults are llama.cpp's; what is odd but workable becomes a warning.

use tokenizers::models::bpe::{BPE, Vocab as TextToId};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::{BertNormalizer, Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::{AddedToken, AddedVocabulary, ModelWrapper, NormalizerWrapper, PreTokenizerWrapper};

use super::vocab::{Kind, Spelling, Vocab};
use super::{ByteEngine, CrateEngine, Engine, Inner, Roles, both_ways, ending, pre, spm};
use crate::TextError;

/// A GGUF vocabulary as plain data; field by field the `tokenizer.ggml.*` keys. `None` and empty mean absent.
#[derive(Debug, Clone, Default)]
pub struct GgufVocab {
    /// `model`: `llama`, `gpt2`, `bert` or `t5`.
    pub model: String,
    /// `pre`: the name of the pre-tokenizer (`gpt2` only).
    pub pre: Option<String>,
    /// `tokens`, in id order.
    pub tokens: Vec<String>,
    /// `scores`, one for each token (`llama`, `t5`).
    pub scores: Vec<f32>,
    /// `token_type`, one for each token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// `merges`, best first, `left right` (`gpt2`).
    pub merges: Vec<String>,
    /// `bos_token_id`; for `bert` the CLS token.
    pub bos: Option<u32>,
    /// `eos_token_id`.
    pub eos: Option<u32>,
    /// `eot_token_id`: end of turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: end of message.
    pub eom: Option<u32>,
    /// `unknown_token_id`.
    pub unk: Option<u32>,
    /// `seperator_token_id` (spelled so in the format).
    pub sep: Option<u32>,
    /// `padding_token_id`.
    pub pad: Option<u32>,
    /// `add_bos_token`.
    pub add_bos: Option<bool>,
    /// `add_eos_token`.
    pub add_eos: Option<bool>,
    /// `add_sep_token`.
    pub add_sep: Option<bool>,
    /// `add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`.
    pub remove_extra_whitespaces: Option<bool>,
    /// `precompiled_charsmap`: SentencePiece's normalisation table.
    pub precompiled_charsmap: Vec<u8>,
    /// `general.name`: Phi-3's special tokens swallow the space behind them, which only the name tells.
    pub name: Option<String>,
}

/// The engine with how it spells and what it wants around a text.
struct Parts {
    engine: Engine,
    add_bos: bool,
    add_eos: bool,
    add_sep: bool,
    strips_space: bool,
}

pub(super) fn build(gguf: GgufVocab) -> Result<Inner, TextError> {
    let count = gguf.tokens.len();
    if count == 0 {
        return Err(TextError::invalid("it has no tokens"));
    }
    for (name, len) in [("scores", gguf.scores.len()), ("token_type", gguf.token_types.len())] {
        if len != 0 && len != count {
            return Err(TextError::Invalid(format!("it has {count} tokens but {len} {name}")));
        }
    }
    let mut warnings = Vec::new();
    let gguf = with_known_ids(gguf, &mut warnings);
    let spelling = match gguf.model.as_str() {
        "gpt2" => Spelling::ByteLevel,
        "llama" | "t5" => Spelling::SentencePiece,
        "bert" => Spelling::WordPiece,
        other => return Err(TextError::Unsupported(format!("tokenizer.ggml.model is {other:?}"))),
    };
    let texts: Vec<String> = if gguf.model == "bert" { wordpiece_texts(&gguf) } else { gguf.tokens.clone() };
    let kinds = texts.iter().enumerate().map(|(id, text)| {
        let kind = gguf.token_types.get(id).map_or(Kind::Normal, |number| Kind::from_gguf(*number));
        // Converters have called `<|im_end|>` a normal token; a model that is to stop there needs it whole.
        if kind == Kind::Normal && ending::is_ending(text) { Kind::Control } else { kind }
    });
    let tokens: Vec<_> = texts.iter().map(String::as_str).zip(kinds).map(Some).collect();
    let vocab = Vocab::new(tokens.into_iter(), spelling)?;
    let parts = match gguf.model.as_str() {
        "gpt2" => byte_level_bpe(&gguf, &vocab, &mut warnings)?,
        "llama" => sentencepiece_bpe(&gguf, &vocab)?,
        "t5" => unigram(&gguf, &vocab)?,
        _ => wordpiece(&gguf, &vocab)?,
    };
    let roles = roles(&gguf, &parts);
    let endings = ending::end_of_generation(&vocab, &[gguf.eos, gguf.eot, gguf.eom]);
    let (all, plain) = both_ways(added_tokens(&gguf, &vocab)?);
    let strips_space = parts.strips_space;
    Ok(Inner { engine: parts.engine, all, plain, vocab, roles, endings, strips_space, warnings })
}

/// Drops special ids that are no token, and fills in what a `llama` vocabulary may leave out.
fn with_known_ids(mut gguf: GgufVocab, warnings: &mut Vec<String>) -> GgufVocab {
    let count = gguf.tokens.len();
    if gguf.model == "llama" {
        gguf.unk = gguf.unk.or(Some(0));
        gguf.bos = gguf.bos.or(Some(1));
        gguf.eos = gguf.eos.or(Some(2));
    }
    let ids = [
        ("bos", &mut gguf.bos),
        ("eos", &mut gguf.eos),
        ("eot", &mut gguf.eot),
        ("eom", &mut gguf.eom),
        ("unknown", &mut gguf.unk),
        ("separator", &mut gguf.sep),
        ("padding", &mut gguf.pad),
    ];
    for (name, id) in ids {
        if let Some(bad) = id.take_if(|id| *id as usize >= count) {
            warnings.push(format!("the {name} token id {bad} is outside the vocabulary and is ignored"));
        }
    }
    gguf
}

fn roles(gguf: &GgufVocab, parts: &Parts) -> Roles {
    let before = gguf.bos.filter(|_| gguf.add_bos.unwrap_or(parts.add_bos));
    let eos = gguf.eos.filter(|_| gguf.add_eos.unwrap_or(parts.add_eos));
    let sep = gguf.sep.filter(|_| gguf.add_sep.unwrap_or(parts.add_sep));
    Roles {
        bos: gguf.bos,
        eos: gguf.eos.or(gguf.eot),
        unk: gguf.unk,
        pad: gguf.pad,
        before: before.into_iter().collect(),
        after: sep.or(eos).into_iter().collect(),
    }
}

/// Control tokens, which are special, and user-defined ones, which always count.
fn added_tokens(gguf: &GgufVocab, vocab: &Vocab) -> Result<AddedVocabulary, TextError> {
    let phi3 = gguf.name.as_ref().map(|name| name.to_lowercase());
    let phi3 = phi3.is_some_and(|name| name.contains("phi-3") || name.contains("phi3"));
    let mut ids = TextToId::default();
    let mut tokens = Vec::new();
    for (id, text, kind) in vocab.iter() {
        let special = matches!(kind, Kind::Control | Kind::Unknown);
        if text.is_empty() || !(special || kind == Kind::UserDefined) {
            continue;
        }
        let rstrip = phi3 && special && !["<unk>", "<s>", "<|endoftext|>"].contains(&text);
        tokens.push(AddedToken::from(text, special).normalized(false).rstrip(rstrip));
        ids.insert(text.to_owned(), id);
    }
    // The crate looks ids up in a model; this one knows just these tokens.
    let lookup = WordLevel::builder().vocab(ids).build().map_err(TextError::invalid)?;
    let mut added = AddedVocabulary::new();
    added.add_tokens(tokens, &lookup, None::<&NormalizerWrapper>).map_err(TextError::invalid)?;
    Ok(added)
}

/// Texts of the tokens that ordinary text may become.
fn text_to_id(vocab: &Vocab) -> TextToId {
    vocab
        .iter()
        .filter(|(_, _, kind)| !matches!(kind, Kind::Control | Kind::Unknown))
        .map(|(id, text, _)| (text.to_owned(), id))
        .collect()
}

fn byte_level_bpe(gguf: &GgufVocab, vocab: &Vocab, warnings: &mut Vec<String>) -> Result<Parts, TextError> {
    if gguf.merges.is_empty() {
        return Err(TextError::invalid("it has no merges"));
    }
    if gguf.pre.is_none() {
        warnings.push("the file names no pre-tokenizer; text is cut by the default rule".to_owned());
    }
    let name = gguf.pre.as_deref().unwrap_or("default");
    let pre = match pre::by_name(name) {
        Some(pre) => pre,
        None => {
            warnings
                .push(format!("the pre-tokenizer {name:?} is not known; text is cut by the default rule"));
            pre::by_name("default").ok_or_else(|| TextError::invalid("no default pre-tokenizer"))?
        }
    };
    let ids = text_to_id(vocab);
    let mut merges = Vec::with_capacity(gguf.merges.len());
    for merge in &gguf.merges {
        // The first character may itself be a space.
        let parts = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| merge.split_at(at));
        let pair = parts.map(|(left, right)| (left, &right[1..]));
        match pair.filter(|(l, r)| [l, r, format!("{l}{r}").as_str()].iter().all(|t| ids.contains_key(*t))) {
            Some((left, right)) => merges.push((left.to_owned(), right.to_owned())),
            None => continue,
        }
    }
    let dropped = gguf.merges.len() - merges.len();
    if dropped > 0 {
        warnings.push(format!("{dropped} merges name tokens that do not exist and are ignored"));
    }
    let bpe = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(pre.ignore_merges)
        .cache_capacity(0)
        .build()
        .map_err(TextError::invalid)?;
    Ok(Parts {
        engine: Engine::Bytes(Box::new(ByteEngine::new(None, pre.cutter()?, ModelWrapper::BPE(bpe)))),
        add_bos: pre.add_bos,
        add_eos: false,
        add_sep: false,
        strips_space: false,
    })
}

fn sentencepiece_bpe(gguf: &GgufVocab, vocab: &Vocab) -> Result<Parts, TextError> {
    let space_prefix = gguf.add_space_prefix.unwrap_or(true);
    let preparation = spm::Preparation {
        space_prefix,
        squeeze: gguf.remove_extra_whitespaces.unwrap_or(false),
        normalizer: charsmap(gguf)?,
    };
    let spm = spm::Spm::new(vocab, &gguf.scores, gguf.unk, preparation);
    let engine = Engine::Spm(Box::new(spm));
    Ok(Parts { engine, add_bos: true, add_eos: false, add_sep: false, strips_space: space_prefix })
}

fn charsmap(gguf: &GgufVocab) -> Result<Option<NormalizerWrapper>, TextError> {
    if gguf.precompiled_charsmap.is_empty() {
        return Ok(None);
    }
    let map = Precompiled::from(&gguf.precompiled_charsmap)
        .map_err(|_| TextError::invalid("its character map (precompiled_charsmap) cannot be read"))?;
    Ok(Some(NormalizerWrapper::Precompiled(map)))
}

fn unigram(gguf: &GgufVocab, vocab: &Vocab) -> Result<Parts, TextError> {
    let score = |id: u32| f64::from(gguf.scores.get(id as usize).copied().unwrap_or(0.0));
    let mut splits_words = true;
    let mut pieces = Vec::with_capacity(vocab.len());
    for id in 0..vocab.len() as u32 {
        let text = vocab.text(id).unwrap_or_default();
        splits_words &= !text.char_indices().any(|(at, c)| at > 0 && c == '▁');
        // Control and unknown tokens must keep their place but never match text; no text holds U+10FFFF twice over.
        let matches = matches!(vocab.kind(id), Kind::Normal | Kind::UserDefined | Kind::Byte);
        pieces
            .push((if matches { text.to_owned() } else { format!("\u{10FFFF}\u{10FFFF}{text}") }, score(id)));
    }
    let fallback = (0..=255u8).all(|byte| pieces.iter().any(|(text, _)| *text == format!("<0x{byte:02X}>")));
    let unk = gguf.unk.map(|id| id as usize);
    let mut model = Unigram::from(pieces, unk, fallback).map_err(TextError::invalid)?;
    model.resize_cache(0);
    let space_prefix = gguf.add_space_prefix.unwrap_or(true);
    let mut steps: Vec<NormalizerWrapper> = charsmap(gguf)?.into_iter().collect();
    if gguf.remove_extra_whitespaces.unwrap_or(true) {
        steps.push(Strip::new(true, true).into());
        let runs = tokenizers::normalizers::replace::ReplacePattern::Regex(" {2,}".to_owned());
        steps.push(Replace::new(runs, " ").map_err(TextError::invalid)?.into());
    }
    let prepend = if space_prefix { PrependScheme::Always } else { PrependScheme::Never };
    Ok(Parts {
        engine: Engine::Crate(Box::new(CrateEngine {
            normalizer: Some(Sequence::new(steps).into()),
            pre: Some(PreTokenizerWrapper::Metaspace(Metaspace::new('▁', prepend, splits_words))),
            model: ModelWrapper::Unigram(model),
        })),
        add_bos: false,
        add_eos: true,
        add_sep: false,
        strips_space: space_prefix,
    })
}

/// GGUF writes WordPiece the other way round: `▁` begins a word, nothing continues one.
fn wordpiece_texts(gguf: &GgufVocab) -> Vec<String> {
    let respell = |(id, text): (usize, &String)| {
        let normal = gguf.token_types.get(id).is_none_or(|kind| *kind == 1);
        match text.strip_prefix('▁') {
            Some(word) => word.to_owned(),
            None if normal && !(text.starts_with('[') && text.ends_with(']')) => format!("##{text}"),
            None => text.clone(),
        }
    };
    gguf.tokens.iter().enumerate().map(respell).collect()
}

fn wordpiece(gguf: &GgufVocab, vocab: &Vocab) -> Result<Parts, TextError> {
    let unk = gguf.unk.and_then(|id| vocab.text(id)).unwrap_or("[UNK]").to_owned();
    let mut ids = text_to_id(vocab);
    if let Some(id) = gguf.unk {
        ids.insert(unk.clone(), id);
    }
    let model = WordPiece::builder().vocab(ids).unk_token(unk).build().map_err(TextError::invalid)?;
    Ok(Parts {
        engine: Engine::Crate(Box::new(CrateEngine {
            normalizer: Some(BertNormalizer::new(true, true, None, true).into()),
            pre: Some(PreTokenizerWrapper::BertPreTokenizer(BertPreTokenizer)),
            model: ModelWrapper::WordPiece(model),
        })),
        add_bos: true,
        add_eos: false,
        add_sep: true,
        strips_space: true,
    })
}
