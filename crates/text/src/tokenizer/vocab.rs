//! `Vocab`: what each token id is: its text, the raw bytes it stands for, and its kind.
//!
//! Invariants: ids are dense up to `len()`, holes are [`Kind::Missing`]; texts and bytes lie in two arenas whose ends
//! are monotone, so a lookup is two reads and the table costs about its text plus nine bytes a token.

use std::collections::HashMap;

use crate::TextError;

/// More ids than this are refused: the largest published vocabularies hold about 300,000 tokens.
pub(crate) const MAX_TOKENS: usize = 1 << 22;

/// What a token is for. The numbers are those of GGUF's `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Missing,
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    /// From GGUF's number; unknown numbers are normal tokens.
    pub(crate) fn from_gguf(number: i32) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// How a vocabulary writes bytes in its token texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// GPT-2's printable stand-ins for all 256 bytes.
    ByteLevel,
    /// `▁` for a space and `<0x0A>` for a byte.
    SentencePiece,
    /// `##` continues a word; any other token begins one and is preceded by a space.
    WordPiece,
    /// Token texts are the text.
    Plain,
}

/// Byte strings by id.
#[derive(Default)]
struct Arena {
    data: Vec<u8>,
    ends: Vec<u32>,
}

impl Arena {
    fn push(&mut self, bytes: &[u8]) -> Result<(), TextError> {
        self.data.extend_from_slice(bytes);
        let end =
            u32::try_from(self.data.len()).map_err(|_| TextError::invalid("its tokens exceed 4 GiB"))?;
        self.ends.push(end);
        Ok(())
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        Some(&self.data[start..end])
    }
}

/// The table of all tokens.
pub(crate) struct Vocab {
    texts: Arena,
    bytes: Arena,
    kinds: Vec<Kind>,
    marked: HashMap<String, u32>,
}

impl Vocab {
    /// Builds the table from texts and kinds in id order (`None` for holes).
    pub(crate) fn new<'a>(
        tokens: impl ExactSizeIterator<Item = Option<(&'a str, Kind)>>,
        spelling: Spelling,
    ) -> Result<Self, TextError> {
        if tokens.len() > MAX_TOKENS {
            return Err(TextError::Invalid(format!(
                "it has {} tokens, the limit is {MAX_TOKENS}",
                tokens.len()
            )));
        }
        let mut vocab = Self {
            texts: Arena::default(),
            bytes: Arena::default(),
            kinds: Vec::with_capacity(tokens.len()),
            marked: HashMap::new(),
        };
        let speller = Speller::new(spelling);
        let mut scratch = Vec::new();
        for (id, token) in tokens.enumerate() {
            let (text, kind) = token.unwrap_or(("", Kind::Missing));
            scratch.clear();
            speller.spell(text, kind, &mut scratch);
            vocab.texts.push(text.as_bytes())?;
            vocab.bytes.push(&scratch)?;
            vocab.kinds.push(kind);
            if matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unknown) {
                vocab.marked.insert(text.to_owned(), id as u32);
            }
        }
        Ok(vocab)
    }

    /// One more than the highest id.
    pub(crate) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// The raw bytes that a token stands for.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        (self.kind(id) != Kind::Missing).then(|| self.bytes.get(id as usize))?
    }

    /// The token as the vocabulary writes it.
    pub(crate) fn text(&self, id: u32) -> Option<&str> {
        let bytes = (self.kind(id) != Kind::Missing).then(|| self.texts.get(id as usize))??;
        std::str::from_utf8(bytes).ok()
    }

    /// What a token is for.
    pub(crate) fn kind(&self, id: u32) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Missing)
    }

    /// The id of a control or user-defined token.
    pub(crate) fn marked(&self, text: &str) -> Option<u32> {
        self.marked.get(text).copied()
    }

    /// Ids, texts and kinds of all tokens that exist.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0..self.len() as u32).filter_map(|id| Some((id, self.text(id)?, self.kind(id))))
    }
}

/// Turns token texts into the bytes they stand for.
struct Speller {
    spelling: Spelling,
    byte_of: HashMap<char, u8>,
}

impl Speller {
    fn new(spelling: Spelling) -> Self {
        let byte_of = match spelling {
            Spelling::ByteLevel => (0..=255).map(|byte| (byte_level_char(byte), byte)).collect(),
            _ => HashMap::new(),
        };
        Self { spelling, byte_of }
    }

    fn spell(&self, text: &str, kind: Kind, out: &mut Vec<u8>) {
        if matches!(kind, Kind::Control | Kind::Unknown) {
            return out.extend_from_slice(text.as_bytes());
        }
        match self.spelling {
            Spelling::ByteLevel if kind == Kind::Normal => self.spell_byte_level(text, out),
            Spelling::SentencePiece => match byte_token(text) {
                Some(byte) if kind != Kind::UserDefined => out.push(byte),
                _ => out.extend_from_slice(text.replace('▁', " ").as_bytes()),
            },
            Spelling::WordPiece if kind == Kind::Normal => match text.strip_prefix("##") {
                Some(rest) => out.extend_from_slice(rest.as_bytes()),
                None => {
                    out.push(b' ');
                    out.extend_from_slice(text.as_bytes());
                }
            },
            _ => out.extend_from_slice(text.as_bytes()),
        }
    }

    /// A character outside the alphabet makes the whole token literal, as in Hugging Face's decoder.
    fn spell_byte_level(&self, text: &str, out: &mut Vec<u8>) {
        let start = out.len();
        for c in text.chars() {
            match self.byte_of.get(&c) {
                Some(byte) => out.push(*byte),
                None => {
                    out.truncate(start);
                    return out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

/// GPT-2's printable character for a byte: itself where printable in Latin-1, else one from U+0100 on.
pub(crate) fn byte_level_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a `<0x0A>` token.
pub(crate) fn byte_token(text: &str) -> Option<u8> {
    let hex = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (hex.len() == 2).then(|| u8::from_str_radix(hex, 16).ok())?
}
