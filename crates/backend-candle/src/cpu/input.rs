//! Activations in the form that kernels read, made once for all weights that share them.
//!
//! Quantised weights take `int8` blocks of 32 with one `f32` scale each: `q = round_ties_even(x * (127 / max|x|))`.
//! Rows are padded with zero blocks to a whole number of groups of 16 blocks, which is what one step of a kernel takes.
//! Every path computes the same bits, whatever the row's neighbours.

use super::block::BLOCK;

/// Blocks in a group.
pub(super) const GROUP: usize = 16;

/// Rows of activations as int8 blocks.
#[derive(Debug, Default)]
pub(super) struct QuantisedInput {
    /// Blocks in a row, padding included.
    pub(super) blocks: usize,
    /// `[n, blocks * 32]`.
    pub(super) q: Vec<i8>,
    /// Scale of each block, `[n, blocks]`.
    pub(super) scale: Vec<f32>,
    /// Sum of each half block's integers, `[n, blocks, 2]`.
    pub(super) sums: Vec<[i16; 2]>,
    /// Scale times the sum of the block's integers, `[n, blocks]`: what a weight block's minimum multiplies.
    pub(super) scaled_sum: Vec<f32>,
}

impl QuantisedInput {
    /// Quantises `x`, `[n, cols]`; `cols` is a multiple of 32.
    pub(super) fn new(x: &[f32], n: usize, cols: usize) -> Self {
        let blocks = (cols / BLOCK).next_multiple_of(GROUP);
        let mut out = Self {
            blocks,
            q: vec![0; n * blocks * BLOCK],
            scale: vec![0.0; n * blocks],
            sums: vec![[0; 2]; n * blocks],
            scaled_sum: vec![0.0; n * blocks],
        };
        for (m, row) in x.chunks_exact(cols).enumerate().take(n) {
            for (b, block) in row.chunks_exact(BLOCK).enumerate() {
                out.quantise_block(block, m * blocks + b);
            }
        }
        out
    }

    fn quantise_block(&mut self, x: &[f32], at: usize) {
        let max = x.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        let q = &mut self.q[at * BLOCK..(at + 1) * BLOCK];
        for (q, v) in q.iter_mut().zip(x) {
            *q = (v * inverse).round_ties_even() as i8;
        }
        let sum = |half: &[i8]| half.iter().map(|v| i16::from(*v)).sum::<i16>();
        self.scale[at] = max / 127.0;
        self.sums[at] = [sum(&q[..16]), sum(&q[16..])];
        self.scaled_sum[at] = self.scale[at] * f32::from(self.sums[at][0] + self.sums[at][1]);
    }
}
