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
#[cfg(target_arch = "x86_64")]
use super::pairs::PairInput;
use super::pool::Pool;
use super::scratch::Loan;
#[cfg(target_arch = "x86_64")]
use super::scratch::Scratch;

/// Blocks in a group.
pub(super) const GROUP: usize = 16;

/// Rows of activations, `[n, cols]`, and what has been made of them.
#[derive(Debug)]
pub(super) struct Input<'a> {
    x: &'a [f32],
    cols: usize,
    quantised: Option<QuantisedInput<'a>>,
    #[cfg(target_arch = "x86_64")]
    pairs: Option<PairInput<'a>>,
    #[cfg(target_arch = "x86_64")]
    scratch: &'a Scratch,
}

impl<'a> Input<'a> {
    /// Prepares `x`, `[n, cols]`, for kernels with these needs.
    pub(super) fn new(pool: &'a Pool, isa: Isa, x: &'a [f32], cols: usize, needs: &[Need]) -> Self {
        let quantised = needs.contains(&Need::Quantised).then(|| QuantisedInput::new(pool, isa, x, cols));
        Self {
            x,
            cols,
            quantised,
            #[cfg(target_arch = "x86_64")]
            pairs: needs.contains(&Need::Pairs).then(|| PairInput::new(pool, x, cols)),
            #[cfg(target_arch = "x86_64")]
            scratch: pool.scratch(),
        }
    }

    /// Row `m` as it is.
    pub(super) fn row(&self, m: usize) -> &[f32] {
        &self.x[m * self.cols..][..self.cols]
    }

    /// The rows as int8 blocks, which a kernel with that need may count on.
    pub(super) fn quantised(&self) -> &QuantisedInput<'a> {
        self.quantised.as_ref().expect("the input was prepared for this kernel")
    }
}

#[cfg(target_arch = "x86_64")]
impl<'a> Input<'a> {
    /// The rows as pairs of `bf16`, which a kernel with that need may count on.
    pub(super) fn pairs(&self) -> &PairInput<'a> {
        self.pairs.as_ref().expect("the input was prepared for this kernel")
    }

    /// Buffers for kernels.
    pub(super) fn scratch(&self) -> &'a Scratch {
        self.scratch
    }
}

/// Sixteen 32-bit words: a cache line, and one word for each block of a group.
pub(super) type Line = [u32; 16];

/// Rows as int8 blocks.
#[derive(Debug)]
pub(super) struct QuantisedInput<'a> {
    groups: usize,
    /// `[n, groups]`.
    data: Loan<'a, Group>,
}

/// Sixteen blocks of a row of activations; a row ends in blocks of zeros where it is no whole number of groups.
///
/// In which order integers and blocks lie within a group is the level's own affair: what its `quantise` writes, its
/// kernels read. The portable level keeps the order of the row.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Group {
    /// 512 `i8`.
    pub(super) q: [Line; 8],
    /// `f32` scale of each block.
    pub(super) scale: Line,
    /// `f32`, scale times the sum of the block's integers: what a weight block's minimum multiplies.
    pub(super) scaled_sum: Line,
    /// Two `i16`: the sums of the block's halves.
    pub(super) sums: Line,
}

/// Rows that one part of a region converts: enough work to be worth handing out.
pub(super) fn rows_per_part(cols: usize) -> usize {
    (16 * 1024_usize).div_ceil(cols)
}

impl<'a> QuantisedInput<'a> {
    /// Quantises `x`, `[n, cols]`; `cols` is a multiple of 32.
    fn new(pool: &'a Pool, isa: Isa, x: &[f32], cols: usize) -> Self {
        let groups = (cols / BLOCK).div_ceil(GROUP);
        let mut data = pool.scratch().take(x.len() / cols * groups);
        let rows = rows_per_part(cols);
        pool.run_chunks(&mut data, rows * groups, |part, data| {
            let x = x[part * rows * cols..].chunks_exact(cols);
            for (row, x) in data.chunks_exact_mut(groups).zip(x) {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the level has been detected.
                    Isa::Avx2 => unsafe { super::avx2::quantise(x, row) },
                    #[cfg(target_arch = "x86_64")]
                    // SAFETY: the level has been detected.
                    Isa::Avx512 | Isa::Avx512Bf16 => unsafe { super::avx512::quantise(x, row) },
                    Isa::Portable => super::portable::quantise(x, row),
                }
            }
        });
        Self { groups, data }
    }

    /// Row `m`.
    pub(super) fn row(&self, m: usize) -> &[Group] {
        &self.data[m * self.groups..][..self.groups]
    }
}
