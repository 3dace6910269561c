//! `Ahead`: a pass that was begun before its turn, so that the device computes while the engine reads what came before.
//!
//! Invariants: it runs the token drawn last of each of its sequences, at the position where the sequence ends; it holds no
//! sequence that was cut, closed or run otherwise since. What it has written beyond a sequence's end counts for nothing until
//! a pass that asks for just that takes it over.

use mlx_rs::Array;
use perch_engine::{Draw, Run, SeqId};

/// A pass on its way, and the tokens drawn at its end.
pub(crate) struct Ahead {
    rows: Vec<Row>,
    /// `[rows]`, see [`crate::draw::draw`].
    pub(crate) tokens: Array,
}

/// What it does for one sequence.
pub(crate) struct Row {
    pub(crate) seq: SeqId,
    /// Where the token that it runs stands.
    pub(crate) position: usize,
    /// That token; known once the pass that drew it is read.
    pub(crate) token: Option<u32>,
    /// How the next one is drawn; nothing is said of the one after it.
    pub(crate) draw: Draw,
}

impl Ahead {
    pub(crate) fn new(rows: Vec<Row>, tokens: Array) -> Self {
        Self { rows, tokens }
    }

    /// The tokens that it runs have been read.
    pub(crate) fn runs(&mut self, tokens: &[Option<u32>]) {
        self.rows.iter_mut().zip(tokens).for_each(|(row, token)| row.token = *token);
    }

    /// The row that has computed `run` and drawn as `draw` wants it.
    pub(crate) fn row(&self, run: &Run<'_>, draw: Option<&Draw>) -> Option<usize> {
        let draw = Draw { then: None, ..*draw? };
        let asked = |row: &Row| {
            row.seq == run.seq
                && row.position == run.position
                && row.token.is_some_and(|token| run.tokens == [token])
                && row.draw == draw
        };
        self.rows.iter().position(asked)
    }

    /// A sequence was cut or closed.
    pub(crate) fn forget(&mut self, seq: SeqId) {
        for row in &mut self.rows {
            if row.seq == seq {
                row.token = None;
            }
        }
    }
}
