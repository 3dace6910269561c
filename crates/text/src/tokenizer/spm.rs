//! SentencePiece's BPE: joins the neighbours whose union has the best score, leftmost first among equals, until no
//! union is a token; what is left over falls back to bytes.
//!
//! Follows `bpe_model.cc` of SentencePiece. Invariants: symbols are contiguous slices of the escaped text, so a union
//! is looked up as a slice and nothing is copied; every queue entry is checked against its symbols' present lengths,
//! so stale ones are harmless. Time is O(n log n), memory about 60 bytes per character.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use tokenizers::{
    AddedVocabulary, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
};

use super::vocab::{Kind, Vocab, byte_token};
use crate::TextError;

/// How a text is prepared before it is cut up.
#[derive(Default)]
pub(super) struct Preparation {
    /// A space in front of the text, and of what follows a special token.
    pub(super) space_prefix: bool,
    /// Runs of spaces become one, spaces at both ends go.
    pub(super) squeeze: bool,
    /// The character map of `tokenizer.model` (NFKC and the like).
    pub(super) normalizer: Option<NormalizerWrapper>,
}

pub(super) struct Spm {
    pieces: HashMap<Box<str>, Piece>,
    bytes: Vec<Option<u32>>,
    unk: Option<u32>,
    /// Bytes of the longest piece; longer unions are not looked up.
    longest: usize,
    /// No piece goes on across the beginning of a word, so words can be joined one by one.
    by_word: bool,
    preparation: Preparation,
}

#[derive(Clone, Copy)]
struct Piece {
    id: u32,
    score: f32,
}

/// A stretch of the text, linked to its neighbours. `len` 0 marks one that was joined to its left.
struct Symbol {
    start: u32,
    len: u32,
    prev: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Two neighbours whose union is a piece.
struct Union {
    score: f32,
    left: u32,
    right: u32,
    len: u32,
}

impl Ord for Union {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Union {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Union {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Union {}

impl Spm {
    /// From the table and one score per id. Control, unknown and byte tokens never match text.
    pub(super) fn new(vocab: &Vocab, scores: &[f32], unk: Option<u32>, preparation: Preparation) -> Self {
        let mut pieces = HashMap::new();
        let mut bytes = vec![None; 256];
        let mut longest = 0;
        let mut by_word = true;
        for (id, text, kind) in vocab.iter() {
            match kind {
                Kind::Byte => {
                    if let Some(byte) = byte_token(text) {
                        bytes[usize::from(byte)] = Some(id);
                    }
                }
                Kind::Normal | Kind::UserDefined => {
                    longest = longest.max(text.len());
                    by_word &= word_starts(text).next().is_none();
                    let score = scores.get(id as usize).copied().unwrap_or(0.0);
                    pieces.insert(text.into(), Piece { id, score });
                }
                _ => {}
            }
        }
        Self { pieces, bytes, unk, longest, by_word, preparation }
    }

    /// Ids of `text`, added tokens first taken out by `added`.
    pub(super) fn encode(
        &self,
        added: &AddedVocabulary,
        text: &str,
        out: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let parts = added.extract_and_normalize(None::<&NormalizerWrapper>, text);
        let mut at_start = true;
        for (part, _, tokens) in parts.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            if let Some(tokens) = tokens {
                out.extend(tokens.iter().map(|token| token.id));
                // A user-defined token is a part of its sentence; a control token begins a new one.
                at_start = tokens.iter().any(|token| added.is_special_token(&token.value));
            } else if !part.is_empty() {
                let prepared = self.prepare(part, at_start)?;
                let mut done = 0;
                for start in word_starts(&prepared).filter(|_| self.by_word) {
                    self.encode_prepared(&prepared[done..start], out)?;
                    done = start;
                }
                self.encode_prepared(&prepared[done..], out)?;
                at_start = false;
            }
        }
        Ok(())
    }

    fn prepare(&self, text: &str, at_start: bool) -> Result<String, TextError> {
        let mut text = std::borrow::Cow::Borrowed(text);
        if let Some(normalizer) = &self.preparation.normalizer {
            let mut normalized = NormalizedString::from(text.as_ref());
            normalizer.normalize(&mut normalized).map_err(|e| TextError::Encode(e.to_string()))?;
            text = normalized.get().to_owned().into();
        }
        let mut out = String::with_capacity(text.len() + text.len() / 2 + 3);
        if self.preparation.squeeze {
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                if !out.is_empty() {
                    out.push('▁');
                }
                out.push_str(word);
            }
        } else {
            out.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
        }
        if self.preparation.space_prefix && at_start && !out.is_empty() {
            out.insert(0, '▁');
        }
        Ok(out)
    }

    fn encode_prepared(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TextError> {
        // Indices and offsets are 32 bits wide to halve the work's memory.
        if text.len() >= NONE as usize {
            return Err(TextError::Encode(format!("it has {} bytes, the limit is 4 GiB", text.len())));
        }
        let mut symbols = symbols(text);
        let mut queue = BinaryHeap::new();
        for right in 1..symbols.len() as u32 {
            self.propose(text, &symbols, right - 1, &mut queue);
        }
        while let Some(union) = queue.pop() {
            let (left, right) = (union.left as usize, union.right as usize);
            let stale = symbols[left].len == 0
                || symbols[right].len == 0
                || symbols[left].len + symbols[right].len != union.len;
            if stale {
                continue;
            }
            symbols[left].len = union.len;
            symbols[right].len = 0;
            let next = symbols[right].next;
            symbols[left].next = next;
            if next != NONE {
                symbols[next as usize].prev = union.left;
            }
            if symbols[left].prev != NONE {
                self.propose(text, &symbols, symbols[left].prev, &mut queue);
            }
            self.propose(text, &symbols, union.left, &mut queue);
        }
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            self.emit(&text[symbol.start as usize..][..symbol.len as usize], out)?;
        }
        Ok(())
    }

    /// Queues the union of `left` and its right neighbour if it is a piece.
    fn propose(&self, text: &str, symbols: &[Symbol], left: u32, queue: &mut BinaryHeap<Union>) {
        let symbol = &symbols[left as usize];
        if symbol.next == NONE {
            return;
        }
        let len = symbol.len + symbols[symbol.next as usize].len;
        if len as usize > self.longest {
            return;
        }
        if let Some(piece) = self.pieces.get(&text[symbol.start as usize..][..len as usize]) {
            queue.push(Union { score: piece.score, left, right: symbol.next, len });
        }
    }

    fn emit(&self, symbol: &str, out: &mut Vec<u32>) -> Result<(), TextError> {
        if let Some(piece) = self.pieces.get(symbol) {
            out.push(piece.id);
            return Ok(());
        }
        let bytes: Option<Vec<u32>> = symbol.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        match (bytes, self.unk) {
            (Some(ids), _) => out.extend(ids),
            (None, Some(unk)) => out.push(unk),
            (None, None) => {
                return Err(TextError::Encode(format!("no token for {symbol:?} and no unknown token")));
            }
        }
        Ok(())
    }
}

/// Where a `▁` follows another character.
fn word_starts(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices('▁').map(|(at, _)| at).filter(|at| *at > 0 && !text[..*at].ends_with('▁'))
}

/// One symbol for each character.
fn symbols(text: &str) -> Vec<Symbol> {
    let mut symbols: Vec<Symbol> = text
        .char_indices()
        .enumerate()
        .map(|(index, (start, c))| Symbol {
            start: start as u32,
            len: c.len_utf8() as u32,
            prev: if index == 0 { NONE } else { index as u32 - 1 },
            next: index as u32 + 1,
        })
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.next = NONE;
    }
    symbols
}
