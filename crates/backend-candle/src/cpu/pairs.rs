//! `PairInput`: activations as pairs of `bf16`, for processors that multiply those (AVX-512 BF16).

use super::avx512::round_pairs;
use super::input::rows_per_part;
use super::pool::Pool;
use super::scratch::Loan;

/// Rows as pairs of `bf16`, two to a double word, the earlier in the lower half; an odd last element is followed by 0.
#[derive(Debug)]
pub(super) struct PairInput<'a> {
    words: usize,
    data: Loan<'a, u32>,
}

impl<'a> PairInput<'a> {
    /// Rounds `x`, `[n, cols]`, to nearest, ties to even. Only kernels of [`super::isa::Isa::Avx512Bf16`] ask for it.
    pub(super) fn new(pool: &'a Pool, x: &[f32], cols: usize) -> Self {
        let words = cols.div_ceil(2);
        let mut data = pool.scratch().take(x.len() / cols * words);
        let rows = rows_per_part(cols);
        pool.run_chunks(&mut data, rows * words, |part, out| {
            let x = x[part * rows * cols..].chunks_exact(cols);
            for (out, x) in out.chunks_exact_mut(words).zip(x) {
                // SAFETY: the level has been detected, or its kernels would not ask.
                unsafe { round_pairs(x, out) }
            }
        });
        Self { words, data }
    }

    /// Row `m`.
    pub(super) fn row(&self, m: usize) -> &[u32] {
        &self.data[m * self.words..][..self.words]
    }
}
