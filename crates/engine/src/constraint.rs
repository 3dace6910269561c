//! `Constraint`: which tokens may come next. JSON schemas and grammars reach the sampler through this door.
//!
//! The engine asks `allowed` before each draw and tells `accept` after it, on the engine thread and in turn. Stop tokens
//! are tokens like any other: a constraint allows them where the text may end. An empty mask fails the request.

use std::fmt;
use std::sync::Arc;

/// What restricts one choice's tokens. Lives as long as the choice; preemption does not touch it.
pub trait Constraint: Send {
    /// Tokens that may come next; `None` allows all. Called once for each token, before it is drawn.
    fn allowed(&mut self) -> Result<Option<&TokenMask>, String>;

    /// The token that was drawn.
    fn accept(&mut self, token: u32) -> Result<(), String>;

    /// Whether nothing may follow; the choice then ends with [`crate::FinishReason::Complete`].
    fn finished(&self) -> bool;
}

type Build = dyn Fn() -> Result<Box<dyn Constraint>, String> + Send + Sync;

/// Builds a fresh constraint for each choice of a request. It runs on the engine thread, so compile a grammar
/// beforehand and only clone its state here.
#[derive(Clone)]
pub struct ConstraintFactory(Arc<Build>);

impl ConstraintFactory {
    /// A factory that calls `build` once for each choice. Its error becomes the request's.
    pub fn new(build: impl Fn() -> Result<Box<dyn Constraint>, String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(build))
    }

    /// A constraint in its first state.
    pub fn build(&self) -> Result<Box<dyn Constraint>, String> {
        (self.0)()
    }
}

impl fmt::Debug for ConstraintFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConstraintFactory")
    }
}

/// A set of token ids as bits: token `t` is bit `t % 32` of word `t / 32`. Tokens beyond the last word are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// The empty set, with room for `vocab_size` tokens.
    pub fn none(vocab_size: usize) -> Self {
        Self { words: vec![0; vocab_size.div_ceil(32)] }
    }

    /// The set with these words.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// Its words, lowest tokens first.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Its words, to be filled in place.
    pub fn words_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }

    /// Adds `token`; one beyond the vocabulary is ignored.
    pub fn allow(&mut self, token: u32) {
        if let Some(word) = self.words.get_mut(token as usize / 32) {
            *word |= 1 << (token % 32);
        }
    }

    /// Whether `token` is in the set.
    pub fn allows(&self, token: u32) -> bool {
        self.words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Sets the logits of all tokens outside the set to negative infinity.
    pub(crate) fn apply(&self, logits: &mut [f32]) {
        for (i, chunk) in logits.chunks_mut(32).enumerate() {
            match self.words.get(i).copied().unwrap_or(0) {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in chunk.iter_mut().enumerate() {
                        *logit = if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_leaves_the_logits_of_its_tokens_and_no_others() {
        let mut mask = TokenMask::none(70);
        for token in [0, 31, 32, 69] {
            mask.allow(token);
        }
        let mut logits = vec![1.0; 70];
        mask.apply(&mut logits);
        let left: Vec<usize> = (0..70).filter(|&t| logits[t] == 1.0).collect();
        assert_eq!(left, [0, 31, 32, 69]);
        assert!(logits.iter().all(|&l| l == 1.0 || l == f32::NEG_INFINITY));
        assert!(mask.allows(69) && !mask.allows(68) && !mask.allows(7_000));
    }

    #[test]
    fn tokens_beyond_a_short_mask_are_not_allowed() {
        let mut logits = vec![1.0; 40];
        TokenMask::from_words(vec![u32::MAX]).apply(&mut logits);
        assert!(logits[..32].iter().all(|&l| l == 1.0));
        assert!(logits[32..].iter().all(|&l| l == f32::NEG_INFINITY));
    }
}
