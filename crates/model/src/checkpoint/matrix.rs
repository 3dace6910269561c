//! `PackedMatrix`: a quantised matrix as MLX's own kernels take it, in the file's own bytes.

use std::borrow::Cow;

use super::Checkpoint;
use super::entry::{Place, Source};
use super::load::WholeRows;
use crate::selection::Selection;
use crate::stored::shown;
use crate::{DType, ModelError, TensorIndex, Weight};

/// How the values of a [`PackedMatrix`] are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packing {
    /// `scale * q + bias`, with a scale and a bias of this type for each group.
    Affine(DType),
    /// E2M1 values with a power of two (a byte of E8M0) for each 32.
    Mxfp4,
    /// E2M1 values with an E4M3 scale for each 16.
    Nvfp4,
}

/// A matrix `[rows, cols]` of packed words with scales beside it, all little-endian, row after row.
#[derive(Debug)]
pub struct PackedMatrix<'a> {
    /// What the words mean.
    pub packing: Packing,
    /// Bits of an element.
    pub bits: usize,
    /// Elements that share a scale.
    pub group: usize,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// `[rows, cols * bits / 32]` 32-bit words.
    pub words: Cow<'a, [u8]>,
    /// `[rows, cols / group]` scales.
    pub scales: Cow<'a, [u8]>,
    /// As many biases, where the packing has them.
    pub biases: Option<Cow<'a, [u8]>>,
}

impl Checkpoint {
    /// The packed form of `weight`, without a copy unless it takes every other row; `None` for a tensor that is not stored in such
    /// a form, which [`Checkpoint::load`] gives.
    ///
    /// # Errors
    /// [`ModelError::InvalidFile`] when there is no such tensor or no such part of it.
    pub fn packed(&self, weight: &Weight) -> Result<Option<PackedMatrix<'_>>, ModelError> {
        let wrong = |what: &str| self.invalid(format!("tensor {} {what}", shown(&weight.name)));
        let entry = self.tensors.get(weight.name.as_str()).ok_or_else(|| wrong("is missing"))?;
        let (packing, bits, group, words, scales, biases) = match &entry.source {
            Source::Affine(parts) => {
                let packing = Packing::Affine(parts.scale_dtype);
                (packing, parts.bits, parts.group, &parts.words, &parts.scales, Some(&parts.biases))
            }
            Source::Mxfp4(parts) => (Packing::Mxfp4, 4, 32, &parts.packed, &parts.scales, None),
            Source::Nvfp4(parts) => (Packing::Nvfp4, 4, 16, &parts.packed, &parts.scales, None),
            _ => return Ok(None),
        };
        let selection = Selection::of(&entry.shape, weight).map_err(|reason| wrong(&reason))?;
        let rows =
            WholeRows::of(&selection, group).ok_or_else(|| wrong("has rows that are not whole groups"))?;
        let Selection { rows: count, cols, .. } = selection;
        let scale_bytes = if let Packing::Affine(dtype) = packing { dtype.block_bytes() } else { 1 };
        let part = |place: &Place, row_bytes: usize| {
            let all = self.bytes(place);
            match selection.is_contiguous() {
                true => Cow::Borrowed(&all[rows.stored(0) * row_bytes..][..count * row_bytes]),
                false => {
                    let row = |row| &all[rows.stored(row) * row_bytes..][..row_bytes];
                    Cow::Owned((0..count).flat_map(row).copied().collect())
                }
            }
        };
        Ok(Some(PackedMatrix {
            packing,
            bits,
            group,
            rows: count,
            cols,
            words: part(words, cols / 8 * bits),
            scales: part(scales, rows.groups * scale_bytes),
            biases: biases.map(|place| part(place, rows.groups * scale_bytes)),
        }))
    }
}
