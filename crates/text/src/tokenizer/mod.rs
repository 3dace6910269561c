//! `Tokenizer`: text to token ids and back, from `tokenizer.json`, from GGUF metadata or from `tokenizer.model`.
//!
//! The models, normalisers and pre-tokenizers are those of the `tokenizers` crate; what runs here is the line through
//! them, because that crate's own `encode` cannot choose per call whether special tokens in the text count, and keeps
//! a cache per thread that outlives the tokenizer. SentencePiece's BPE is our own ([`spm`]): it breaks ties between
//! equal scores by position, which a list of ranked merges cannot say.
//!
//! Invariants: a `Tokenizer` is immutable and cheap to clone; every id that `encode` returns is below `vocab_size()`;
//! `decode` of any ids never fails and never panics.

mod config;
mod cut;
mod ending;
mod gguf;
mod hf;
mod pre;
mod sentencepiece;
mod spm;
mod vocab;

use std::sync::Arc;

use tokenizers::{
    AddedVocabulary, Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizer,
    PreTokenizerWrapper,
};

pub use gguf::GgufVocab;

use crate::Detokenizer;
use crate::error::{TextError, guarded};
use vocab::{Kind, Vocab};

/// What to do about special tokens while encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Special {
    /// Add what the tokenizer puts around a text: usually BOS in front, sometimes EOS behind. Not for the output of a
    /// chat template, which writes its own.
    pub add: bool,
    /// Read the spelling of a special token (`<|im_start|>`) as that token. With `false` it is ordinary text, so that
    /// what a user typed cannot speak for the template. Tokens that a vocabulary adds without calling them special
    /// (`<think>` in Qwen3) are always read.
    pub parse: bool,
}

/// Text to token ids and back. Clones share one table.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    /// Splits added tokens from the text; `plain` lets special ones pass as text.
    all: AddedVocabulary,
    plain: AddedVocabulary,
    vocab: Vocab,
    roles: Roles,
    endings: Vec<u32>,
    /// The first space of a text is the tokenizer's own and is dropped when decoding.
    strips_space: bool,
    warnings: Vec<String>,
}

/// The tokens that play a part, by id.
#[derive(Debug, Clone, Default)]
struct Roles {
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    /// What [`Special::add`] puts before and after a text.
    before: Vec<u32>,
    after: Vec<u32>,
}

/// What turns a piece of ordinary text into ids.
enum Engine {
    Bytes(Box<ByteEngine>),
    Crate(Box<CrateEngine>),
    Spm(Box<spm::Spm>),
}

/// Byte-level BPE, with the cuts made here and the merges by the crate.
struct ByteEngine {
    normalizer: Option<NormalizerWrapper>,
    cutter: cut::Cutter,
    model: ModelWrapper,
    /// The character that stands for each byte.
    alphabet: Vec<char>,
}

impl ByteEngine {
    fn new(normalizer: Option<NormalizerWrapper>, cutter: cut::Cutter, model: ModelWrapper) -> Self {
        let alphabet = (0..=255).map(vocab::byte_level_char).collect();
        Self { normalizer, cutter, model, alphabet }
    }

    fn encode(&self, added: &AddedVocabulary, text: &str, out: &mut Vec<u32>) -> Result<(), TextError> {
        let parts = added.extract_and_normalize(self.normalizer.as_ref(), text);
        let mut word = String::new();
        for (part, _, tokens) in parts.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            if let Some(tokens) = tokens {
                out.extend(tokens.iter().map(|token| token.id));
                continue;
            }
            for piece in self.cutter.cut(part)? {
                word.clear();
                word.extend(piece.bytes().map(|byte| self.alphabet[usize::from(byte)]));
                let tokens = self.model.tokenize(&word).map_err(|e| TextError::Encode(e.to_string()))?;
                out.extend(tokens.iter().map(|token| token.id));
            }
        }
        Ok(())
    }
}

/// The parts of a `tokenizers::Tokenizer` that we drive.
struct CrateEngine {
    normalizer: Option<NormalizerWrapper>,
    pre: Option<PreTokenizerWrapper>,
    model: ModelWrapper,
}

impl CrateEngine {
    fn encode(&self, added: &AddedVocabulary, text: &str, out: &mut Vec<u32>) -> Result<(), TextError> {
        let failed = |e: tokenizers::Error| TextError::Encode(e.to_string());
        let mut pieces = added.extract_and_normalize(self.normalizer.as_ref(), text);
        if let Some(pre) = &self.pre {
            pre.pre_tokenize(&mut pieces).map_err(failed)?;
        }
        for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            match tokens {
                Some(tokens) => out.extend(tokens.iter().map(|token| token.id)),
                None => out.extend(self.model.tokenize(piece).map_err(failed)?.iter().map(|t| t.id)),
            }
        }
        Ok(())
    }
}

impl Tokenizer {
    /// From the bytes of `tokenizer.json`, with `tokenizer_config.json` for the names of BOS and EOS if there is one.
    pub fn from_tokenizer_json(bytes: &[u8], config: Option<&serde_json::Value>) -> Result<Self, TextError> {
        guarded(|| hf::build(bytes, config)).map(Self::from_inner)
    }

    /// From a GGUF file's `tokenizer.ggml.*` metadata.
    pub fn from_gguf(vocab: GgufVocab) -> Result<Self, TextError> {
        guarded(|| gguf::build(vocab)).map(Self::from_inner)
    }

    /// From the bytes of a SentencePiece `tokenizer.model` (BPE or unigram).
    pub fn from_sentencepiece(bytes: &[u8], config: Option<&serde_json::Value>) -> Result<Self, TextError> {
        guarded(|| gguf::build(sentencepiece::read(bytes, config)?)).map(Self::from_inner)
    }

    fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Token ids of `text`. Takes time and memory in proportion to the text, also where it is one long word.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TextError> {
        let inner = &*self.inner;
        let mut ids = Vec::with_capacity(text.len() / 3 + 2);
        if special.add {
            ids.extend_from_slice(&inner.roles.before);
        }
        let added = if special.parse { &inner.all } else { &inner.plain };
        guarded(|| match &inner.engine {
            Engine::Bytes(engine) => engine.encode(added, text, &mut ids),
            Engine::Crate(engine) => engine.encode(added, text, &mut ids),
            Engine::Spm(spm) => spm.encode(added, text, &mut ids),
        })?;
        if special.add {
            ids.extend_from_slice(&inner.roles.after);
        }
        Ok(ids)
    }

    /// Text of `ids`: their bytes in a row, U+FFFD where those are not UTF-8. Unknown ids stand for nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut detokenizer = Detokenizer::new(self, skip_special);
        let mut text = String::new();
        for id in ids {
            text.push_str(&detokenizer.push(*id));
        }
        text.push_str(&detokenizer.finish());
        text
    }

    /// The raw bytes that a token stands for; possibly a part of a character. `None` for ids that are not tokens.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.inner.vocab.bytes(id)
    }

    /// The token as the vocabulary writes it (`Ġhello`, `▁hello`, `<|im_end|>`).
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.inner.vocab.text(id)
    }

    /// One more than the highest token id. A model's logits may be wider.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab.len()
    }

    /// Whether the vocabulary calls this token special (control or unknown): not shown to a reader.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.inner.vocab.kind(id), Kind::Control | Kind::Unknown)
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.inner.roles.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.inner.roles.eos
    }

    /// The token for what the vocabulary cannot say.
    pub fn unk(&self) -> Option<u32> {
        self.inner.roles.unk
    }

    /// The padding token.
    pub fn pad(&self) -> Option<u32> {
        self.inner.roles.pad
    }

    /// Whether [`Special::add`] puts BOS in front.
    pub fn adds_bos(&self) -> bool {
        self.inner.roles.bos.is_some_and(|bos| self.inner.roles.before.contains(&bos))
    }

    /// Every token after which a generation is over, ascending: EOS, end of turn, end of message, by llama.cpp's rule.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.inner.endings
    }

    /// The id of a special or added token by its spelling.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        self.inner.vocab.marked(text)
    }

    /// What was odd about the vocabulary but could be worked around, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// Whether decoding drops the first space of a text.
    pub(crate) fn strips_space(&self) -> bool {
        self.inner.strips_space
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.bos())
            .field("eos", &self.eos())
            .field("end_of_generation", &self.end_of_generation())
            .finish_non_exhaustive()
    }
}

/// The added tokens twice: with special ones read, and with special ones left as text.
fn both_ways(all: AddedVocabulary) -> (AddedVocabulary, AddedVocabulary) {
    let mut plain = all.clone();
    plain.set_encode_special_tokens(true);
    (all, plain)
}
