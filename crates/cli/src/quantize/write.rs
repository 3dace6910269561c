//! Writing the result: a few rows at a time, rounded on every core.

use std::io::Write;

use anyhow::{Context, Result, bail};
use perch_model::gguf::Body;
use perch_model::quant::{dequantize_row, quantize_row};
use perch_model::{Checkpoint, DType, Weight};

use super::plan::{Plan, Planned, Source};

/// Values that are in memory as floats at once.
const VALUES: usize = 16 << 20;

/// Writes all of it.
pub(super) fn write<W: Write>(checkpoint: &Checkpoint, plan: &Plan, out: W) -> Result<()> {
    let mut header = plan.header.clone();
    for tensor in &plan.tensors {
        header.declare(&tensor.name, tensor.dtype, &tensor.shape)?;
    }
    let mut body = header.begin(out)?;
    for tensor in &plan.tensors {
        write_tensor(checkpoint, tensor, &mut body).with_context(|| format!("tensor {}", tensor.name))?;
    }
    body.finish()?;
    Ok(())
}

fn write_tensor<W: Write>(checkpoint: &Checkpoint, tensor: &Planned, body: &mut Body<W>) -> Result<()> {
    let (rows, cols) = size(tensor);
    let step = (VALUES / cols.max(1)).clamp(1, rows);
    for start in (0..rows).step_by(step) {
        let range = start..(start + step).min(rows);
        body.write(&encoded(checkpoint, tensor, range)?)?;
    }
    Ok(())
}

/// Rows and columns; a vector is one row.
pub(super) fn size(tensor: &Planned) -> (usize, usize) {
    let cols = tensor.shape.last().copied().unwrap_or(1);
    (tensor.shape[..tensor.shape.len().saturating_sub(1)].iter().product::<usize>().max(1), cols)
}

/// Some rows of the result, as bytes of its type.
fn encoded(checkpoint: &Checkpoint, tensor: &Planned, rows: std::ops::Range<usize>) -> Result<Vec<u8>> {
    if let Source::Tensor(name) = &tensor.source {
        let stored = checkpoint.load(&weight(name, tensor, rows.clone()), None)?;
        if stored.dtype() == tensor.dtype {
            return Ok(stored.bytes().to_vec());
        }
    }
    let (_, cols) = size(tensor);
    let values = floats(checkpoint, tensor, rows)?;
    encode(tensor.dtype, &values, cols)
}

/// Some rows of the result before they are rounded.
pub(super) fn floats(
    checkpoint: &Checkpoint,
    tensor: &Planned,
    rows: std::ops::Range<usize>,
) -> Result<Vec<f32>> {
    let (all, cols) = size(tensor);
    let mut values = vec![0.0; rows.len() * cols];
    match &tensor.source {
        Source::Values(made) => values.copy_from_slice(&made[rows.start * cols..rows.end * cols]),
        Source::Tensor(name) => {
            let stored = checkpoint.load(&weight(name, tensor, rows), None)?;
            dequantize_row(stored.dtype(), stored.bytes(), &mut values);
        }
        Source::OneMore(name) => {
            let stored = checkpoint.load(&weight(name, tensor, rows), None)?;
            dequantize_row(stored.dtype(), stored.bytes(), &mut values);
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Source::Stacked { names, rows: each } => {
            let mut at = rows.start;
            let mut left = &mut values[..];
            while at < rows.end {
                let (one, first) = (at / each, at % each);
                let count = (each - first).min(rows.end - at);
                let (out, others) = left.split_at_mut(count * cols);
                let part = Weight::span(names[one].as_str(), first..first + count);
                let stored = checkpoint.load(&part, None)?;
                dequantize_row(stored.dtype(), stored.bytes(), out);
                (at, left) = (at + count, others);
            }
        }
        // A bias has one value for each row of its matrix.
        Source::Interleaved { name, heads } if all == 1 => {
            let stored = checkpoint.load(&Weight::new(name.as_str()), None)?;
            let mut plain = vec![0.0; cols];
            dequantize_row(stored.dtype(), stored.bytes(), &mut plain);
            for (row, value) in values.iter_mut().enumerate() {
                *value = plain[interleaved(row, cols / heads)];
            }
        }
        Source::Interleaved { name, heads } => {
            for (row, out) in rows.zip(values.chunks_exact_mut(cols)) {
                let from = interleaved(row, all / heads);
                let stored = checkpoint.load(&Weight::span(name.as_str(), from..from + 1), None)?;
                dequantize_row(stored.dtype(), stored.bytes(), out);
            }
        }
    }
    Ok(values)
}

/// The row of the original that stands in row `row`: within a head of `size` rows, the first half goes to the even
/// places and the second half to the odd ones.
fn interleaved(row: usize, size: usize) -> usize {
    let (head, within) = (row / size, row % size);
    head * size + within / 2 + within % 2 * (size / 2)
}

fn weight(name: &str, tensor: &Planned, rows: std::ops::Range<usize>) -> Weight {
    if tensor.shape.len() > 1 { Weight::span(name, rows) } else { Weight::new(name) }
}

/// Rounds rows of `cols` values, on every core.
fn encode(dtype: DType, values: &[f32], cols: usize) -> Result<Vec<u8>> {
    let Some(row_bytes) = dtype.row_bytes(cols).filter(|bytes| *bytes > 0) else {
        bail!("rows of {cols} are not whole blocks of {dtype:?}");
    };
    let rows = values.len() / cols;
    let mut out = vec![0; rows * row_bytes];
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(rows).max(1);
    let share = rows.div_ceil(threads);
    std::thread::scope(|scope| {
        let parts = values.chunks(share * cols).zip(out.chunks_mut(share * row_bytes));
        for (values, out) in parts {
            scope.spawn(move || {
                for (values, out) in values.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes)) {
                    quantize_row(dtype, values, out);
                }
            });
        }
    });
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_head_are_interleaved_by_halves() {
        let order: Vec<usize> = (0..8).map(|row| interleaved(row, 4)).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
