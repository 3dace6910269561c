//! Matrix products of activations and weights: `out = x · wᵀ`.
//!
//! Batch invariance, the contract that continuous batching stands on: a row of the output depends on its own row of
//! the input alone, bit for bit, whatever `n`, the other rows, the number of threads and the partition. It holds
//! because every kernel, for one row or for a tile of rows, keeps the order of accumulation given in `portable.rs`.

use super::block::{Form, UnpackedRow};
use super::input::QuantisedInput;
use super::isa::Isa;
use super::matrix::{Matrix, float_at};
use super::pool::{Pool, SendPtr};
use super::portable::{dot_float, dot_quantised};

/// One matrix applied to some rows of a shared input.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub weight: &'a Matrix,
    /// Which rows of the input, in the order of the output; `None` takes all.
    pub rows: Option<&'a [u32]>,
    /// `[rows, weight.rows()]`.
    pub out: &'a mut [f32],
}

/// `outs[i] = x · weights[i]ᵀ` for matrices that share the input (q, k, v; gate, up). `x` is `[n, cols]`, `outs[i]` is
/// `[n, weights[i].rows()]`.
///
/// # Panics
/// When the lengths disagree.
pub fn matmul(pool: &Pool, weights: &[&Matrix], x: &[f32], n: usize, outs: &mut [&mut [f32]]) {
    assert_eq!(weights.len(), outs.len(), "one output for each matrix");
    let mut products: Vec<Product<'_>> =
        weights.iter().zip(outs).map(|(weight, out)| Product { weight, rows: None, out }).collect();
    matmul_grouped(pool, Isa::best(), x, n, &mut products);
}

/// Several products over rows of one input in a single parallel region: the experts of a mixture, each with the tokens
/// routed to it. `x` is `[n, cols]`. `isa` forces a kernel path; [`Isa::best`] is the fastest.
///
/// # Panics
/// When the lengths disagree or a row index is not below `n`.
pub fn matmul_grouped(pool: &Pool, isa: Isa, x: &[f32], n: usize, products: &mut [Product<'_>]) {
    let Some(cols) = products.first().map(|p| p.weight.cols()) else { return };
    assert_eq!(x.len(), n * cols, "the input is not [n, cols]");
    for p in products.iter() {
        let rows = p.rows.map_or(n, <[u32]>::len);
        assert_eq!(p.weight.cols(), cols, "matrices with a shared input have the same number of columns");
        assert_eq!(p.out.len(), rows * p.weight.rows(), "the output is not [rows, weight rows]");
        assert!(p.rows.is_none_or(|r| r.iter().all(|&m| (m as usize) < n)), "a row index is out of range");
    }
    let Isa::Portable = isa;
    let quantised = products.iter().any(|p| Form::of(p.weight.dtype()).is_some());
    let q = if quantised { QuantisedInput::new(x, n, cols) } else { QuantisedInput::default() };

    const CHUNK: usize = 16;
    let mut parts = Vec::new();
    for p in products.iter_mut() {
        let out = std::sync::Arc::new(SendPtr(p.out.as_mut_ptr()));
        for start in (0..p.weight.rows()).step_by(CHUNK) {
            parts.push((p.weight, p.rows, out.clone(), start..p.weight.rows().min(start + CHUNK)));
        }
    }
    pool.run(parts.len(), |i| {
        let (weight, select, out, range) = &parts[i];
        let count = select.map_or(n, <[u32]>::len);
        let form = Form::of(weight.dtype());
        let mut unpacked = form.map(|form| UnpackedRow::new(form, cols));
        for row in range.clone() {
            let bytes = weight.row(row);
            if let Some(unpacked) = &mut unpacked {
                unpacked.unpack(weight.dtype(), bytes);
            }
            for j in 0..count {
                let m = select.map_or(j, |s| s[j] as usize);
                let value = match &unpacked {
                    Some(unpacked) => dot_quantised(unpacked, &q, m),
                    None => dot_float(cols, |k| float_at(weight.dtype(), bytes, k), &x[m * cols..][..cols]),
                };
                // SAFETY: `j * rows + row` is inside the output (checked above), and no other part has this row.
                unsafe { *out.get().add(j * weight.rows() + row) = value };
            }
        }
    });
}
