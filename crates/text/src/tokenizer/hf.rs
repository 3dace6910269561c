//! A tokenizer from `tokenizer.json`, with the parts and the meaning that Hugging Face's `tokenizers` gives it.
//!
//! Not taken over: truncation and padding (the engine's affair).

use serde_json::Value;
use tokenizers::{Encoding, ModelWrapper, PostProcessor, PostProcessorWrapper, Token};

use super::cut::Cutter;
use super::vocab::{Kind, MAX_TOKENS, Spelling, Vocab};
use super::{ByteEngine, CrateEngine, Engine, Inner, Roles, both_ways, config, ending};
use crate::TextError;

/// A larger `tokenizer.json` is refused; the largest published ones have 35 MB.
const MAX_JSON_BYTES: usize = 256 << 20;

/// Stands for the text while the post-processor is asked what it puts around one.
const MARKER: u32 = u32::MAX;

pub(super) fn build(bytes: &[u8], config: Option<&Value>) -> Result<Inner, TextError> {
    if bytes.len() > MAX_JSON_BYTES {
        return Err(TextError::Invalid(format!("tokenizer.json has {} bytes", bytes.len())));
    }
    let tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(TextError::invalid)?;
    let decoder = tokenizer.get_decoder().and_then(|d| serde_json::to_value(d).ok()).unwrap_or_default();
    let pre = tokenizer.get_pre_tokenizer().and_then(|p| serde_json::to_value(p).ok()).unwrap_or_default();
    let vocab = table(&tokenizer, spelling(&decoder, &pre))?;
    let roles = roles(&tokenizer, config, &vocab)?;
    let endings = ending::end_of_generation(&vocab, &[roles.eos]);
    let (all, plain) = both_ways(tokenizer.get_added_vocabulary().clone());
    let mut model = tokenizer.get_model().clone();
    model.resize_cache(0);
    if let ModelWrapper::BPE(bpe) = &mut model {
        // Training-time noise; a server's prompts must not change from run to run.
        bpe.dropout = None;
    }
    let normalizer = tokenizer.get_normalizer().cloned();
    let engine = match Cutter::from_json(&pre)? {
        Some(cutter) if matches!(model, ModelWrapper::BPE(_)) => {
            Engine::Bytes(Box::new(ByteEngine::new(normalizer, cutter, model)))
        }
        _ => {
            let pre = tokenizer.get_pre_tokenizer().cloned();
            Engine::Crate(Box::new(CrateEngine { normalizer, pre, model }))
        }
    };
    Ok(Inner {
        engine,
        all,
        plain,
        vocab,
        roles,
        endings,
        strips_space: strips_space(&decoder),
        warnings: Vec::new(),
    })
}

fn table(tokenizer: &tokenizers::Tokenizer, spelling: Spelling) -> Result<Vocab, TextError> {
    let texts = tokenizer.get_vocab(true);
    let added = tokenizer.get_added_tokens_decoder();
    let size = texts.values().copied().max().map_or(0, |id| id as usize + 1);
    if size > MAX_TOKENS {
        return Err(TextError::Invalid(format!("it has token id {}, the limit is {MAX_TOKENS}", size - 1)));
    }
    let mut tokens: Vec<Option<(&str, Kind)>> = vec![None; size];
    for (text, id) in &texts {
        tokens[*id as usize] = Some((text, Kind::Normal));
    }
    for (id, token) in &added {
        if let Some(slot) = tokens.get_mut(*id as usize) {
            let kind = if token.special { Kind::Control } else { Kind::UserDefined };
            *slot = Some((&token.content, kind));
        }
    }
    Vocab::new(tokens.into_iter(), spelling)
}

fn roles(
    tokenizer: &tokenizers::Tokenizer,
    config: Option<&Value>,
    vocab: &Vocab,
) -> Result<Roles, TextError> {
    let (mut before, mut after) = match tokenizer.get_post_processor() {
        Some(post) => surroundings(post)?,
        None => Default::default(),
    };
    if before.iter().chain(&after).any(|id| vocab.text(*id).is_none()) {
        return Err(TextError::invalid("its post-processor adds a token that is not in the vocabulary"));
    }
    let named = |key: &str| config::token(config, key).and_then(|text| tokenizer.token_to_id(text));
    let bos = named("bos_token").or_else(|| before.first().copied());
    let eos = named("eos_token");
    amend(&mut before, bos, config::flag(config, "add_bos_token"));
    amend(&mut after, eos, config::flag(config, "add_eos_token"));
    Ok(Roles { bos, eos, unk: named("unk_token"), pad: named("pad_token"), before, after })
}

/// `add_bos_token` and `add_eos_token` overrule the post-processor, as they do in transformers' Llama classes.
fn amend(list: &mut Vec<u32>, token: Option<u32>, wanted: Option<bool>) {
    match (token, wanted) {
        (Some(id), Some(true)) if !list.contains(&id) => list.push(id),
        (Some(id), Some(false)) if *list == [id] => list.clear(),
        _ => {}
    }
}

/// The ids that a post-processor puts before and after a text.
fn surroundings(post: &PostProcessorWrapper) -> Result<(Vec<u32>, Vec<u32>), TextError> {
    let text = Encoding::from_tokens(vec![Token::new(MARKER, "x".to_owned(), (0, 1))], 0);
    let around = post.process(text, None, true).map_err(TextError::invalid)?;
    let ids = around.get_ids();
    let at = ids
        .iter()
        .position(|id| *id == MARKER)
        .ok_or_else(|| TextError::invalid("its post-processor drops the text"))?;
    Ok((ids[..at].to_vec(), ids[at + 1..].to_vec()))
}

/// How token texts spell bytes, by what undoes it.
fn spelling(decoder: &Value, pre: &Value) -> Spelling {
    let decodes = |kind: &str| has_type(decoder, kind);
    if decodes("ByteLevel") || (decoder.is_null() && has_type(pre, "ByteLevel")) {
        Spelling::ByteLevel
    } else if decodes("ByteFallback") || decodes("Metaspace") || decodes("Replace") {
        Spelling::SentencePiece
    } else if decodes("WordPiece") {
        Spelling::WordPiece
    } else {
        Spelling::Plain
    }
}

/// Whether the decoder drops the first space of a text.
fn strips_space(decoder: &Value) -> bool {
    find_type(decoder, "Strip").is_some_and(|strip| strip["content"] == " " && strip["start"] != 0)
        || find_type(decoder, "Metaspace").is_some_and(|meta| meta["prepend_scheme"] != "never")
        || has_type(decoder, "WordPiece")
}

fn has_type(part: &Value, kind: &str) -> bool {
    find_type(part, kind).is_some()
}

/// The part of this type, at the top or within a sequence.
fn find_type<'a>(part: &'a Value, kind: &str) -> Option<&'a Value> {
    if part["type"] == kind {
        return Some(part);
    }
    let children = part.get("decoders").or_else(|| part.get("pretokenizers"))?.as_array()?;
    children.iter().find_map(|child| find_type(child, kind))
}
