//! `Kernel`: what each instruction-set level offers for a type of weights, as a table of functions.

use std::ops::Range;

use perch_model::DType;

use super::input::Input;
use super::isa::Isa;
use super::portable;
use super::task::Task;

/// The form in which a kernel takes activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// As they are.
    Plain,
    /// As int8 blocks.
    Quantised,
    /// As pairs of `bf16`.
    #[cfg(target_arch = "x86_64")]
    Pairs,
}

/// Weight rows against all chosen activation rows.
///
/// # Safety
/// The processor has the level; the weight has the type; the input has what the kernel needs; the output may be written
/// at every chosen row and each of the weight rows, which are no other thread's.
pub(super) type Dot = unsafe fn(&Task<'_>, Range<usize>, &Input<'_>);

/// Kernels for one type of weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    pub(super) need: Need,
    /// Best for few activation rows.
    pub(super) dot: Dot,
    /// For many activation rows, where the level has one.
    pub(super) panel: Option<PanelKernel>,
}

/// A kernel that packs weights and activations first. Sizes are in 32-bit words.
#[derive(Debug, Clone, Copy)]
pub(super) struct PanelKernel {
    /// Activation rows from which it beats `dot`.
    pub(super) from: usize,
    /// Weight rows in a panel.
    pub(super) rows: usize,
    /// Activation rows in a tile.
    pub(super) tile: usize,
    /// Size of a panel of so many columns.
    pub(super) panel_words: fn(usize) -> usize,
    /// Size of a tile of so many columns.
    pub(super) tile_words: fn(usize) -> usize,
    /// Packs chosen rows `first ..` of the input, as many as a tile holds.
    ///
    /// # Safety
    /// The processor has the level; the input has what the kernel needs.
    pub(super) pack_tile: unsafe fn(&Input<'_>, &Task<'_>, usize, &mut [u32]),
    /// Weight rows `first ..`, as many as a panel holds, against all tiles; the last argument is room for the panel.
    ///
    /// # Safety
    /// As [`Dot`]; the tiles are those of the task's chosen rows.
    pub(super) run: unsafe fn(&Task<'_>, usize, &[u32], &mut [u32]),
}

impl Kernel {
    /// The kernel of level `isa` for weights of type `dtype`; `None` for a type that no level knows.
    pub(super) fn of(isa: Isa, dtype: DType) -> Option<Self> {
        match isa {
            Isa::Portable => portable::kernel(dtype),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => super::avx2::kernel(dtype),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => super::avx512::kernel(dtype, isa == Isa::Avx512Bf16),
        }
    }
}
