//! Activations in the forms that kernels read, made once for all weights that share them.
//!
//! - Quantised weights take `int8` blocks of 32 with one `f32` scale each: `q = round_ties_even(x * (127 / max|x|))`.
//!   Rows are padded with zero blocks to whole groups of 16 blocks, which is what one step of a kernel takes. Every
//!   path computes the same bits. A block with a NaN or an infinity has a scale that is not finite either, so that
//!   faults show in the output instead of vanishing in the rounding.
//! - `bf16` weights, where the processor multiplies pairs of `bf16`, take activations rounded to `bf16`.
//! - All other float weights take the activations as they are.

use super::block::BLOCK;
use super::isa::Isa;
use super::kernel::Need;
use super::pool::Pool;
use super::scratch::Loan;

/// Blocks in a group.
pub(super) const GROUP: usize = 16;

/// Rows of activations, `[n, cols]`, and what has been made of them.
#[derive(Debug)]
pub(super) struct Input<'a> {
    x: &'a [f32],
    cols: usize,
    quantised: Option<QuantisedInput<'a>>,
    pairs: Option<PairInput<'a>>,
}

impl<'a> Input<'a> {
    /// Prepares `x`, `[n, cols]`, for kernels with these needs.
    pub(super) fn new(pool: &'a Pool, isa: Isa, x: &'a [f32], cols: usize, needs: &[Need]) -> Self {
        let quantised = needs.contains(&Need::Quantised).then(|| QuantisedInput::new(pool, isa, x, cols));
        let pairs = needs.contains(&Need::Pairs).then(|| PairInput::new(pool, isa, x, cols));
        Self { x, cols, quantised, pairs }
    }

    /// Row `m` as it is.
    pub(super) fn row(&self, m: usize) -> &[f32] {
        &self.x[m * self.cols..][..self.cols]
    }

    /// The rows as int8 blocks, which a kernel with that need may count on.
    pub(super) fn quantised(&self) -> &QuantisedInput<'a> {
        self.quantised.as_ref().expect("the input was prepared for this kernel")
    }

    /// The rows as pairs of `bf16`, which a kernel with that need may count on.
    pub(super) fn pairs(&self) -> &PairInput<'a> {
        self.pairs.as_ref().expect("the input was prepared for this kernel")
    }
}

/// Rows as int8 blocks.
#[derive(Debug)]
pub(super) struct QuantisedInput<'a> {
    blocks: usize,
    /// For each row `i8[blocks * 32]`, then `blocks` each of what [`QuantisedView`] lists.
    data: Loan<'a, u8>,
}

/// One row as int8 blocks, padding included.
#[derive(Debug, Clone, Copy)]
pub(super) struct QuantisedView<'a> {
    pub(super) q: &'a [i8],
    /// Scale of each block.
    pub(super) scale: &'a [f32],
    /// Scale times the sum of the block's integers: what a weight block's minimum multiplies.
    pub(super) scaled_sum: &'a [f32],
    /// Sum of each half block's integers.
    pub(super) sums: &'a [[i16; 2]],
}

/// One row, to be filled.
#[derive(Debug)]
pub(super) struct QuantisedRow<'a> {
    pub(super) q: &'a mut [i8],
    pub(super) scale: &'a mut [f32],
    pub(super) scaled_sum: &'a mut [f32],
    pub(super) sums: &'a mut [[i16; 2]],
}

/// Bytes of a block: integers, two floats, two sums.
const BLOCK_BYTES: usize = BLOCK + 12;

/// Rows that one part of a region converts: enough work to be worth handing out.
fn rows_per_part(cols: usize) -> usize {
    (16 * 1024_usize).div_ceil(cols)
}

impl<'a> QuantisedInput<'a> {
    /// Quantises `x`, `[n, cols]`; `cols` is a multiple of 32.
    fn new(pool: &'a Pool, isa: Isa, x: &[f32], cols: usize) -> Self {
        let blocks = (cols / BLOCK).next_multiple_of(GROUP);
        let row_bytes = blocks * BLOCK_BYTES;
        let mut data = pool.scratch().take(x.len() / cols * row_bytes);
        let rows = rows_per_part(cols);
        pool.run_chunks(&mut data, rows * row_bytes, |part, bytes| {
            let x = x[part * rows * cols..].chunks_exact(cols);
            for (bytes, x) in bytes.chunks_exact_mut(row_bytes).zip(x) {
                let (q, rest) = bytes.split_at_mut(blocks * BLOCK);
                let (scale, rest) = rest.split_at_mut(blocks * 4);
                let (scaled_sum, sums) = rest.split_at_mut(blocks * 4);
                let row = QuantisedRow {
                    q: bytemuck::cast_slice_mut(q),
                    scale: bytemuck::cast_slice_mut(scale),
                    scaled_sum: bytemuck::cast_slice_mut(scaled_sum),
                    sums: bytemuck::cast_slice_mut(sums),
                };
                quantise(isa, x, row);
            }
        });
        Self { blocks, data }
    }

    /// Row `m`.
    pub(super) fn row(&self, m: usize) -> QuantisedView<'_> {
        let blocks = self.blocks;
        let row = &self.data[m * blocks * BLOCK_BYTES..][..blocks * BLOCK_BYTES];
        let (q, rest) = row.split_at(blocks * BLOCK);
        let (scale, rest) = rest.split_at(blocks * 4);
        let (scaled_sum, sums) = rest.split_at(blocks * 4);
        QuantisedView {
            q: bytemuck::cast_slice(q),
            scale: bytemuck::cast_slice(scale),
            scaled_sum: bytemuck::cast_slice(scaled_sum),
            sums: bytemuck::cast_slice(sums),
        }
    }
}

/// Quantises one row and zeroes its padding.
fn quantise(isa: Isa, x: &[f32], row: QuantisedRow<'_>) {
    let blocks = x.len() / BLOCK;
    row.q[blocks * BLOCK..].fill(0);
    row.scale[blocks..].fill(0.0);
    row.scaled_sum[blocks..].fill(0.0);
    row.sums[blocks..].fill([0; 2]);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the level has been detected.
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { super::avx512::quantise(x, row) },
        _ => quantise_portable(x, row),
    }
}

fn quantise_portable(x: &[f32], row: QuantisedRow<'_>) {
    for (b, x) in x.chunks_exact(BLOCK).enumerate() {
        // As integers the magnitudes order like the floats, with NaN on top.
        let bits = x.iter().fold(0, |max, v| max.max(v.to_bits() & 0x7fff_ffff));
        let max = f32::from_bits(bits);
        let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
        let q = &mut row.q[b * BLOCK..(b + 1) * BLOCK];
        for (q, v) in q.iter_mut().zip(x) {
            *q = (v * inverse).round_ties_even() as i8;
        }
        let sum = |half: &[i8]| half.iter().map(|v| i16::from(*v)).sum::<i16>();
        let sums = [sum(&q[..16]), sum(&q[16..])];
        row.scale[b] = max / 127.0;
        row.scaled_sum[b] = row.scale[b] * f32::from(sums[0] + sums[1]);
        row.sums[b] = sums;
    }
}

/// Rows as pairs of `bf16`, two to a double word, the earlier in the lower half; an odd last element is followed by 0.
#[derive(Debug)]
pub(super) struct PairInput<'a> {
    words: usize,
    data: Loan<'a, u32>,
}

impl<'a> PairInput<'a> {
    /// Rounds `x`, `[n, cols]`, to nearest, ties to even.
    fn new(pool: &'a Pool, isa: Isa, x: &[f32], cols: usize) -> Self {
        let words = cols.div_ceil(2);
        let mut data = pool.scratch().take(x.len() / cols * words);
        let rows = rows_per_part(cols);
        pool.run_chunks(&mut data, rows * words, |part, out| {
            let x = x[part * rows * cols..].chunks_exact(cols);
            for (out, x) in out.chunks_exact_mut(words).zip(x) {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the level has been detected.
                    Isa::Avx512Bf16 => unsafe { super::avx512::round_pairs(x, out) },
                    _ => unreachable!("{isa:?} multiplies no pairs"),
                }
            }
        });
        Self { words, data }
    }

    /// Row `m`.
    pub(super) fn row(&self, m: usize) -> &[u32] {
        &self.data[m * self.words..][..self.words]
    }
}
