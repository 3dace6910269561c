//! `Matrix`: a weight ready for the kernels, read in place.
//!
//! Invariants: `cols` is a whole number of the type's blocks and the bytes are exactly `rows` rows (kept by
//! [`Tensor`]); the kernels rely on both for their raw reads.

use perch_model::quant::dequantize_row;
use perch_model::{DType, Tensor};
use thiserror::Error;

use super::block::Form;

/// Why a tensor cannot be used as a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// No rows or no columns.
    #[error(
        "a weight matrix of {rows} × {cols} is empty; the model file is damaged or was converted wrongly"
    )]
    Empty {
        /// Rows of the tensor.
        rows: usize,
        /// Columns of the tensor.
        cols: usize,
    },
    /// A type without kernels.
    #[error("weights of type {0:?} have no CPU kernel; convert the model to another type")]
    Unsupported(DType),
}

/// A weight matrix, `rows × cols` (outputs × inputs), in the bytes of its tensor: nothing is copied.
#[derive(Debug, Clone)]
pub struct Matrix {
    tensor: Tensor,
    row_bytes: usize,
}

impl Matrix {
    /// Takes a tensor as a matrix. Fails when it is empty or of a type without kernels.
    pub fn new(tensor: Tensor) -> Result<Self, MatrixError> {
        let (rows, cols, dtype) = (tensor.rows(), tensor.cols(), tensor.dtype());
        if rows == 0 || cols == 0 {
            return Err(MatrixError::Empty { rows, cols });
        }
        let float = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        match dtype.row_bytes(cols) {
            Some(row_bytes) if float || Form::of(dtype).is_some() => Ok(Self { tensor, row_bytes }),
            _ => Err(MatrixError::Unsupported(dtype)),
        }
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.tensor.rows()
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.tensor.cols()
    }

    /// Type of the stored weights.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype()
    }

    /// Bytes of one stored row.
    pub fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The stored bytes of row `row`.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.tensor.bytes()[row * self.row_bytes..][..self.row_bytes]
    }

    /// Writes row `row` as floats to `out` (`cols` long): the lookup of an embedding.
    ///
    /// # Panics
    /// When `row` is out of range or `out` has another length.
    pub fn row_f32(&self, row: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols(), "a row of this matrix has another length");
        dequantize_row(self.dtype(), self.row(row), out);
    }
}
