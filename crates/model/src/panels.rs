//! Builds a tensor of its own bytes, a panel of rows at a time, on every core.

use std::sync::Arc;

use rayon::prelude::*;

use crate::{DType, Tensor};

/// Rows in a panel: enough that reading down the columns of a transposed matrix uses whole cache lines.
const ROWS: usize = 16;

/// Makes a `rows × cols` tensor. `fill` gets the number of the first row of a panel and the panel's zeroed bytes, which
/// are whole rows. `None` when the sizes are zero, overflow or do not fit the type.
pub(crate) fn build(
    dtype: DType,
    rows: usize,
    cols: usize,
    fill: impl Fn(usize, &mut [u8]) + Sync,
) -> Option<Tensor> {
    let row_bytes = dtype.row_bytes(cols).filter(|bytes| *bytes > 0)?;
    let len = row_bytes.checked_mul(rows).filter(|len| *len > 0)?;
    // Made in place as what it will be: a `Vec` would have to be copied to become an `Arc`.
    let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, len).collect();
    Arc::get_mut(&mut bytes)?
        .par_chunks_mut(row_bytes.checked_mul(ROWS)?)
        .enumerate()
        .for_each(|(panel, bytes)| fill(panel * ROWS, bytes));
    Tensor::owned(dtype, rows, cols, bytes)
}

/// The same where each row is made by itself: `fill` gets the number of a row and its zeroed bytes.
pub(crate) fn build_rows(
    dtype: DType,
    (rows, cols): (usize, usize),
    fill: impl Fn(usize, &mut [u8]) + Sync,
) -> Option<Tensor> {
    let row_bytes = dtype.row_bytes(cols)?;
    build(dtype, rows, cols, |first, panel| {
        panel.chunks_exact_mut(row_bytes).enumerate().for_each(|(row, out)| fill(first + row, out));
    })
}
