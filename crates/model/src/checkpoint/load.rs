//! Resolves a [`Weight`] to a [`Tensor`]: a view of the mapped file where the bytes already are what is wanted, a
//! converted copy otherwise.

use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::{Affine, Entry, Fp4, Place, Source};
use super::packed::{self, AffineScales};
use super::{Checkpoint, MappedFile};
use crate::quant::{RowSource, dequantize_row, quantize_matrix};
use crate::selection::Selection;
use crate::stored::shown;
use crate::{DType, ModelError, Quantize, Tensor, TensorIndex, Weight, panels};

/// Elements that [`TensorIndex::values`] returns at most.
const MAX_VALUES: usize = 65_536;

const UNEVEN: &str = "has rows that are not whole blocks";

/// What is packed in one file's bytes, row by row.
#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u8],
    dtype: DType,
    selection: Selection,
}

impl Checkpoint {
    /// The tensor that `weight` means, rounded to `quantize` if it is a matrix of floats (see [`Quantize::target`]).
    ///
    /// All rows or a span of them are a view of the mapped file, without a copy; strides, transposes, MLX' and gpt-oss'
    /// packed forms and quantisation make a copy, one panel of rows at a time on every core. A vector has one row.
    /// MLX' 4-bit matrices come as Q4_1, those of other widths as Affine8, MXFP4 as GGUF's blocks, NVFP4 as F16.
    ///
    /// # Errors
    /// [`ModelError::InvalidFile`] when there is no such tensor or no such part of it, [`ModelError::Unsupported`] when
    /// it is stored in a way that is not read.
    pub fn load(&self, weight: &Weight, quantize: Option<Quantize>) -> Result<Tensor, ModelError> {
        let name = &weight.name;
        let wrong = |what: &str| self.invalid(format!("tensor {} {what}", shown(name)));
        let entry = self.tensors.get(name.as_str()).ok_or_else(|| wrong("is missing"))?;
        if let Some(obstacle) = entry.obstacle() {
            return Err(ModelError::Unsupported(format!(
                "{}: tensor {} {obstacle}",
                self.origin.display(),
                shown(name)
            )));
        }
        let selection = Selection::of(&entry.shape, weight).map_err(|reason| wrong(&reason))?;
        self.load_selection(entry, selection, quantize).map_err(wrong)
    }

    fn load_selection(
        &self,
        entry: &Entry,
        selection: Selection,
        quantize: Option<Quantize>,
    ) -> Result<Tensor, &'static str> {
        match &entry.source {
            Source::Plain { kind, place } => {
                let dtype = kind.dtype.ok_or("is not stored as floats")?;
                let file = &self.files[place.file];
                let rows = Rows { bytes: &file.bytes()[place.range.clone()], dtype, selection };
                let target = quantize.filter(|_| selection.rows > 1);
                match target.and_then(|quantize| quantize.target(dtype, selection.cols)) {
                    Some(target) => quantize_matrix(target, (selection.rows, selection.cols), &rows),
                    None if selection.is_contiguous() => rows.view(file, place),
                    None => rows.copy(),
                }
                .ok_or(UNEVEN)
            }
            Source::Affine(parts) => self.unpack_affine(parts, &selection),
            Source::Mxfp4(parts) => self.unpack_mxfp4(parts, &selection).ok_or(UNEVEN),
            Source::Nvfp4(parts) => self.unpack_nvfp4(parts, &selection).ok_or(UNEVEN),
            Source::Foreign { .. } => Err("is stored in a way that is not supported"),
        }
    }

    fn unpack_affine(&self, parts: &Affine, selection: &Selection) -> Result<Tensor, &'static str> {
        let Affine { bits, group, scale_dtype, .. } = *parts;
        let packed = self.bytes(&parts.words);
        let (scales, biases) = (self.bytes(&parts.scales), self.bytes(&parts.biases));
        let rows = WholeRows::of(selection, group).ok_or(UNEVEN)?;
        let dtype = if bits == 4 { DType::Q4_1 } else { DType::Affine8 };
        let (width, scale_width) = (selection.cols / 8 * bits, rows.groups * scale_dtype.block_bytes());
        let finite = AtomicBool::new(true);
        let tensor = panels::build_rows(dtype, (selection.rows, selection.cols), |row, out| {
            let row = rows.stored(row);
            let scales = AffineScales {
                dtype: scale_dtype,
                scales: &scales[row * scale_width..][..scale_width],
                biases: &biases[row * scale_width..][..scale_width],
                group,
            };
            if !packed::affine_row(bits, &packed[row * width..][..width], scales, out) {
                finite.store(false, Ordering::Relaxed);
            }
        });
        match finite.into_inner() {
            true => tensor.ok_or(UNEVEN),
            false => Err("has scales that are not finite in 16 bits"),
        }
    }

    fn unpack_mxfp4(&self, parts: &Fp4, selection: &Selection) -> Option<Tensor> {
        let (packed, scales) = (self.bytes(&parts.packed), self.bytes(&parts.scales));
        let rows = WholeRows::of(selection, 32)?;
        panels::build_rows(DType::Mxfp4, (selection.rows, selection.cols), |row, out| {
            let row = rows.stored(row);
            let packed = &packed[row * rows.groups * 16..][..rows.groups * 16];
            packed::mxfp4_row(packed, &scales[row * rows.groups..][..rows.groups], out);
        })
    }

    fn unpack_nvfp4(&self, parts: &Fp4, selection: &Selection) -> Option<Tensor> {
        let (packed, scales) = (self.bytes(&parts.packed), self.bytes(&parts.scales));
        let rows = WholeRows::of(selection, 16)?;
        panels::build_rows(DType::F16, (selection.rows, selection.cols), |row, out| {
            let row = rows.stored(row);
            let packed = &packed[row * rows.groups * 8..][..rows.groups * 8];
            packed::nvfp4_row(packed, &scales[row * rows.groups..][..rows.groups], out);
        })
    }

    /// All values of a small tensor, see [`TensorIndex::values`].
    pub(super) fn small_values(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let tensor = self.load(&Weight::new(name), None)?;
        match tensor.rows().checked_mul(tensor.cols()) {
            Some(count) if count <= MAX_VALUES => {
                let mut values = vec![0.0; count];
                dequantize_row(tensor.dtype(), tensor.bytes(), &mut values);
                Ok(values)
            }
            _ => Err(self.invalid(format!("tensor {} has more than {MAX_VALUES} values", shown(name)))),
        }
    }

    pub(super) fn bytes(&self, place: &Place) -> &[u8] {
        &self.files[place.file].bytes()[place.range.clone()]
    }
}

/// Selected rows of a packed tensor, each taken whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct WholeRows {
    first: usize,
    step: usize,
    /// Groups in a row.
    pub(super) groups: usize,
}

impl WholeRows {
    /// `None` if the selection takes less than whole rows, or rows that are not whole groups.
    pub(super) fn of(selection: &Selection, group: usize) -> Option<Self> {
        let Selection { cols, offset, row_step, col_step, .. } = *selection;
        let whole = [cols % group, offset % cols, row_step % cols] == [0; 3] && col_step == 1;
        whole.then_some(Self { first: offset / cols, step: row_step / cols, groups: cols / group })
    }

    /// Where selected row `row` stands in the stored tensor.
    pub(super) fn stored(&self, row: usize) -> usize {
        self.first + row * self.step
    }
}

impl Rows<'_> {
    /// The bytes of `cols` elements from element `start` on; `None` if they are not whole blocks.
    fn span(&self, start: usize, elements: usize) -> Option<std::ops::Range<usize>> {
        let start = self.dtype.row_bytes(start)?;
        Some(start..start.checked_add(self.dtype.row_bytes(elements)?)?)
    }

    /// The selection as a view of the file that `place` is in.
    fn view(&self, file: &MappedFile, place: &Place) -> Option<Tensor> {
        let Selection { rows, cols, offset, .. } = self.selection;
        self.dtype.row_bytes(cols)?;
        let span = self.span(offset, rows.checked_mul(cols)?)?;
        let range = place.range.start + span.start..place.range.start + span.end;
        Tensor::in_place(self.dtype, rows, cols, file.in_place().clone(), range)
    }

    /// The selection as a copy: whole rows, or single elements where they are not next to each other.
    fn copy(&self) -> Option<Tensor> {
        let Selection { rows, cols, offset, row_step, col_step } = self.selection;
        if col_step == 1 {
            self.span(offset, cols)?;
            self.span(row_step, cols)?;
            return panels::build_rows(self.dtype, (rows, cols), |row, out| {
                if let Some(span) = self.span(offset + row * row_step, cols) {
                    out.copy_from_slice(&self.bytes[span]);
                }
            });
        }
        let size = (self.dtype.block_len() == 1).then(|| self.dtype.block_bytes())?;
        panels::build(self.dtype, rows, cols, |first, out| {
            // Column by column: the elements of neighbouring rows lie next to each other in the file.
            let count = out.len() / (cols * size);
            for col in 0..cols {
                for row in 0..count {
                    let from = (offset + (first + row) * row_step + col * col_step) * size;
                    let to = (row * cols + col) * size;
                    out[to..to + size].copy_from_slice(&self.bytes[from..from + size]);
                }
            }
        })
    }
}

impl RowSource for Rows<'_> {
    fn read(&self, first: usize, out: &mut [f32]) {
        let Selection { cols, offset, row_step, col_step, .. } = self.selection;
        let size = self.dtype.block_bytes();
        if col_step == 1 {
            for (row, out) in out.chunks_exact_mut(cols).enumerate() {
                let from = (offset + (first + row) * row_step) * size;
                dequantize_row(self.dtype, &self.bytes[from..from + cols * size], out);
            }
            return;
        }
        // Neighbouring rows of a column lie next to each other, or a step apart: decode the stretch they are in at once.
        let count = out.len() / cols;
        let mut stretch = vec![0.0; (count - 1) * row_step + 1];
        for col in 0..cols {
            let from = (offset + first * row_step + col * col_step) * size;
            dequantize_row(self.dtype, &self.bytes[from..from + stretch.len() * size], &mut stretch);
            for (row, value) in stretch.iter().step_by(row_step).enumerate() {
                out[row * cols + col] = *value;
            }
        }
    }
}
