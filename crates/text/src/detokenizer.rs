//! `Detokenizer`: token ids to text, one at a time, never half a character.
//!
//! Invariants: what all `push`es and the `finish` return, in a row, is `String::from_utf8_lossy` of the tokens' bytes
//! in a row; at most three bytes are held back, and only while they may still become a character.

use crate::Tokenizer;

/// Turns the tokens of one text into strings as they come.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    pending: Vec<u8>,
    skip_special: bool,
    shown: Vec<u32>,
    drops_space: bool,
}

impl Detokenizer {
    /// For a text of its own. `skip_special` leaves special tokens out.
    pub fn new(tokenizer: &Tokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            pending: Vec::new(),
            skip_special,
            shown: Vec::new(),
            drops_space: tokenizer.strips_space(),
        }
    }

    /// For a text that goes on after `prompt`: a leading space is the text's own unless the prompt ends with a special
    /// token (or is empty), where SentencePiece puts one that nobody wrote.
    pub fn after(mut self, prompt: &[u32]) -> Self {
        self.drops_space &= prompt.last().is_none_or(|last| self.tokenizer.is_special(*last));
        self
    }

    /// Shows these special tokens although others are skipped: the markers that output parsers look for.
    pub fn showing(mut self, tokens: Vec<u32>) -> Self {
        self.shown = tokens;
        self
    }

    /// The text that this token completes; empty while a character is unfinished. Unknown ids stand for nothing.
    pub fn push(&mut self, id: u32) -> String {
        let special = self.tokenizer.is_special(id);
        if special && self.skip_special && !self.shown.contains(&id) {
            return String::new();
        }
        let bytes = self.tokenizer.token_bytes(id).unwrap_or_default();
        let bytes =
            if self.drops_space && !special { bytes.strip_prefix(b" ").unwrap_or(bytes) } else { bytes };
        // Control tokens before the first word do not use up the rule.
        self.drops_space &= special || self.tokenizer.token_bytes(id).is_none_or(<[u8]>::is_empty);
        self.pending.extend_from_slice(bytes);
        self.take(false)
    }

    /// What is left: U+FFFD for a character that never ended.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    /// Takes the complete characters out of `pending`, or everything.
    fn take(&mut self, all: bool) -> String {
        let mut text = String::with_capacity(self.pending.len());
        let mut kept = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let broken = chunk.invalid();
            if chunks.peek().is_none() && !all && may_become_char(broken) {
                kept = broken.len();
            } else if !broken.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        drop(chunks);
        self.pending.drain(..self.pending.len() - kept);
        text
    }
}

/// Whether more bytes can turn these into a character.
fn may_become_char(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
