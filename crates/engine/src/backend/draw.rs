//! `Draw`: how the next token of a sequence is chosen, in a form that a device can carry out.

/// How to draw a token from a row of logits. Top-k, top-p and min-p cut in this order, each renormalising what the last one
/// left, as the engine's sampler does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// So many of the likeliest tokens remain; 0 for all.
    pub top_k: usize,
    /// The likeliest tokens remain until their probabilities reach this; 1 for all.
    pub top_p: f32,
    /// Tokens remain whose probability is at least this share of the likeliest one's; 0 for all.
    pub min_p: f32,
    /// Where in the cumulated probabilities, in [0, 1), the token lies: those of all tokens by id where none is cut away, else
    /// those of the remaining ones, likeliest first.
    pub at: f64,
    /// The same for the token after this one; `None` where there will be none.
    pub then: Option<f64>,
}

impl Draw {
    /// Whether the likeliest token is taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Whether some tokens are cut away, for a vocabulary of so many.
    pub fn cuts(&self, vocab_size: usize) -> bool {
        (self.top_k > 0 && self.top_k < vocab_size) || self.top_p < 1.0 || self.min_p > 0.0
    }
}
