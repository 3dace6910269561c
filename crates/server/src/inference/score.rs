//! `Score`: a token with its log-probability, as text and bytes.

use perch_engine::LogProbs;
use perch_text::Tokenizer;

/// What stands for the logarithm of zero: JSON has no infinity. OpenAI's own stand-in.
const LEAST: f32 = -9999.0;

/// A token with its log-probability.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    pub(crate) token: Spelled,
    /// `None` for the first token of a prompt, before which there is nothing to predict it from.
    pub(crate) logprob: Option<f32>,
    /// The most likely tokens in its place, best first.
    pub(crate) top: Vec<(Spelled, f32)>,
}

/// A token as text and bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spelled {
    /// U+FFFD for bytes that are no characters by themselves.
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
}

impl Spelled {
    fn new(tokenizer: &Tokenizer, id: u32) -> Self {
        let bytes = tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        Self { text: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }
}

impl Score {
    pub(crate) fn new(tokenizer: &Tokenizer, id: u32, logprobs: Option<&LogProbs>) -> Self {
        let top = logprobs.map(|logprobs| logprobs.top.as_slice()).unwrap_or_default();
        Self {
            token: Spelled::new(tokenizer, id),
            logprob: logprobs.map(|logprobs| logprobs.chosen.max(LEAST)),
            top: top.iter().map(|&(id, logprob)| (Spelled::new(tokenizer, id), logprob.max(LEAST))).collect(),
        }
    }
}
