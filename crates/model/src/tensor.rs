//! `Tensor`: bytes of a weight with their type and shape, in place in a mapped file (or in the program) or owned.
//!
//! Invariants: `bytes().len() == rows * dtype.row_bytes(cols)`, checked when a tensor is made; `cols` is a multiple of
//! the dtype's block. Rows are contiguous. Mapped bytes have no alignment guarantee beyond one byte.

use std::ops::Range;
use std::sync::Arc;

use crate::map::InPlace;
use crate::quant::dequantize_row;

/// Element or block type of a weight. Block layouts are GGUF's (ggml-common.h), little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    /// One shared exponent (E8M0) and 32 E2M1 values: 17 bytes.
    Mxfp4,
    /// Not in GGUF: `f16 scale, f16 min, u8[32]`, value `scale * q + min`. Holds MLX's 8-bit affine weights.
    Affine8,
}

impl DType {
    /// Elements in one block.
    pub const fn block_len(self) -> usize {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => 1,
            DType::Q2K | DType::Q3K | DType::Q4K | DType::Q5K | DType::Q6K => 256,
            _ => 32,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q8_0 => 34,
            DType::Q2K => 84,
            DType::Q3K => 110,
            DType::Q4K => 144,
            DType::Q5K => 176,
            DType::Q6K => 210,
            DType::Mxfp4 => 17,
            DType::Affine8 => 36,
        }
    }

    /// Bytes of a row of `cols` elements; `None` when `cols` is not a whole number of blocks or overflows.
    pub const fn row_bytes(self, cols: usize) -> Option<usize> {
        if !cols.is_multiple_of(self.block_len()) {
            return None;
        }
        (cols / self.block_len()).checked_mul(self.block_bytes())
    }
}

/// A matrix (or vector: one row) of weights.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    rows: usize,
    cols: usize,
    data: Data,
}

#[derive(Debug, Clone)]
enum Data {
    InPlace(InPlace, Range<usize>),
    Owned(Arc<[u8]>),
}

impl Tensor {
    /// A view of `range` of a file's bytes. `None` when the sizes disagree or the range is outside the file.
    pub(crate) fn in_place(
        dtype: DType,
        rows: usize,
        cols: usize,
        file: InPlace,
        range: Range<usize>,
    ) -> Option<Self> {
        let bytes = dtype.row_bytes(cols)?.checked_mul(rows)?;
        (range.len() == bytes && range.end <= file.len()).then_some(Self {
            dtype,
            rows,
            cols,
            data: Data::InPlace(file, range),
        })
    }

    /// A tensor with bytes of its own. `None` when the sizes disagree.
    pub fn owned(dtype: DType, rows: usize, cols: usize, bytes: impl Into<Arc<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        let expected = dtype.row_bytes(cols)?.checked_mul(rows)?;
        (bytes.len() == expected).then_some(Self { dtype, rows, cols, data: Data::Owned(bytes) })
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of rows (outputs of a linear layer).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements in a row (inputs of a linear layer).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// All rows, one after another.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::InPlace(file, range) => &file[range.clone()],
            Data::Owned(bytes) => bytes,
        }
    }

    /// All values in `f32`, row after row.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.cols];
        let row_bytes = self.bytes().len() / self.rows.max(1);
        let rows = self.bytes().chunks_exact(row_bytes.max(1)).zip(values.chunks_exact_mut(self.cols.max(1)));
        rows.for_each(|(row, out)| dequantize_row(self.dtype, row, out));
        values
    }

    /// Whether the bytes lie on the heap (and not in a mapped file or the program).
    pub fn is_owned(&self) -> bool {
        matches!(self.data, Data::Owned(_))
    }
}
