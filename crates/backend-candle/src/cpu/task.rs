//! What a kernel is handed: a weight, the chosen rows of the input, and where results go.

use super::matrix::Matrix;
use super::pool::SendPtr;

/// Which rows of the input a product takes, in the order of its output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Select<'a> {
    /// The first `n`.
    All(usize),
    /// These.
    Rows(&'a [u32]),
}

impl Select<'_> {
    /// How many.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Select::All(n) => *n,
            Select::Rows(rows) => rows.len(),
        }
    }

    /// The input row of output row `j`.
    #[inline]
    pub(super) fn row(&self, j: usize) -> usize {
        match self {
            Select::All(_) => j,
            Select::Rows(rows) => rows[j] as usize,
        }
    }
}

/// An output matrix that several threads fill, each its own columns.
#[derive(Debug)]
pub(super) struct Out {
    base: SendPtr<f32>,
    stride: usize,
}

impl Out {
    /// Of `out`, `[_, stride]`. The caller keeps the borrow of `out` alive and to itself while the `Out` is used.
    pub(super) fn new(out: &mut [f32], stride: usize) -> Self {
        Self { base: SendPtr(out.as_mut_ptr()), stride }
    }

    /// Where element `(j, column)` is.
    #[inline]
    pub(super) fn at(&self, j: usize, column: usize) -> *mut f32 {
        self.base.get().wrapping_add(j * self.stride + column)
    }

    /// Writes element `(j, column)`.
    ///
    /// # Safety
    /// The element is inside the matrix, whose borrow is alive, and no other thread touches this column.
    #[inline]
    pub(super) unsafe fn put(&self, j: usize, column: usize, value: f32) {
        // SAFETY: the caller's.
        unsafe { *self.at(j, column) = value };
    }
}

/// One product.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub(super) weight: &'a Matrix,
    pub(super) select: Select<'a>,
    pub(super) out: Out,
}
