//! `Selection`: which elements of a stored tensor a [`Weight`] means, as a strided matrix.
//!
//! Both `ModelSpec::validate` and `Checkpoint::load` resolve weights here, so that what was validated is what is loaded.
//! Invariant: every element of the matrix lies within the stored tensor.

use crate::{RowSelect, Weight};

/// A matrix within a stored tensor. Element `(r, c)` is element `offset + r * row_step + c * col_step` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Number of rows, not zero.
    pub(crate) rows: usize,
    /// Elements in a row, not zero.
    pub(crate) cols: usize,
    /// The first element.
    pub(crate) offset: usize,
    /// Elements between the starts of two rows.
    pub(crate) row_step: usize,
    /// Elements between two elements of a row; 1 unless transposed, or picked out of a vector.
    pub(crate) col_step: usize,
}

impl Selection {
    /// What `weight` selects from a tensor of `shape`, outermost dimension first.
    ///
    /// A vector (one dimension, or a row that `index` picks out of two) is one row, and `rows` selects its elements, as
    /// a bias is split like the rows of its matrix. Leading dimensions of anything larger are flattened into rows.
    ///
    /// # Errors
    /// A sentence, without the tensor's name, when the tensor has no such part.
    pub(crate) fn of(shape: &[usize], weight: &Weight) -> Result<Self, String> {
        let (shape, base) = match (weight.index, shape) {
            (None, _) => (shape, 0),
            (Some(index), [count, rest @ ..]) if !rest.is_empty() && index < *count => {
                (rest, product(rest)?.checked_mul(index).ok_or("has too many elements")?)
            }
            (Some(index), _) => return Err(format!("of shape {shape:?} has no part {index}")),
        };
        let elements = product(shape)?;
        let (rows, cols) = match (shape, weight.transpose) {
            ([n], false) => (*n, 1),
            ([.., cols], false) => (elements / cols, *cols),
            ([cols, rows], true) => (*rows, *cols),
            _ => return Err(format!("of shape {shape:?} cannot be used as a matrix")),
        };
        let (row_step, col_step) = if weight.transpose { (1, rows) } else { (cols, 1) };
        let (start, step, count) = match weight.rows {
            RowSelect::All => (0, 1, rows),
            RowSelect::Span { start, count } => (start, 1, count),
            RowSelect::Stride { start, step, count } => (start, step, count),
        };
        let last = count.checked_sub(1).and_then(|n| n.checked_mul(step)).and_then(|n| n.checked_add(start));
        if step == 0 || last.is_none_or(|last| last >= rows) {
            return Err(format!("of shape {shape:?} has no rows {:?}", weight.rows));
        }
        let offset = base + start * row_step;
        Ok(match shape {
            [_] => Self { rows: 1, cols: count, offset, row_step: count, col_step: step },
            _ => Self { rows: count, cols, offset, row_step: step * row_step, col_step },
        })
    }

    /// Whether the selected elements lie one after another.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.col_step == 1 && (self.rows == 1 || self.row_step == self.cols)
    }
}

fn product(shape: &[usize]) -> Result<usize, String> {
    match shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) {
        Some(0) => Err(format!("of shape {shape:?} is empty")),
        Some(n) => Ok(n),
        None => Err(format!("of shape {shape:?} has too many elements")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(shape: &[usize], weight: Weight) -> Vec<Vec<usize>> {
        let s = Selection::of(shape, &weight).unwrap();
        (0..s.rows)
            .map(|r| (0..s.cols).map(|c| s.offset + r * s.row_step + c * s.col_step).collect())
            .collect()
    }

    #[test]
    fn leading_dimensions_become_rows() {
        assert_eq!(select(&[2, 2, 3], Weight::span("w", 1..3)), [[3, 4, 5], [6, 7, 8]]);
    }

    #[test]
    fn rows_of_a_bias_are_its_elements() {
        assert_eq!(select(&[6], Weight::span("b", 2..5)), [[2, 3, 4]]);
        let rows = RowSelect::Stride { start: 1, step: 2, count: 3 };
        assert_eq!(select(&[2, 6], Weight { rows, index: Some(1), ..Weight::new("b") }), [[7, 9, 11]]);
    }

    #[test]
    fn a_transposed_stack_is_read_down_its_columns() {
        let rows = RowSelect::Stride { start: 1, step: 2, count: 2 };
        let weight = Weight { rows, transpose: true, index: Some(1), ..Weight::new("w") };
        assert_eq!(select(&[2, 3, 4], weight), [[13, 17, 21], [15, 19, 23]]);
    }

    #[test]
    fn what_lies_outside_the_tensor_is_refused() {
        let whole = Weight::new("w");
        let far = Weight { index: Some(2), ..whole.clone() };
        let huge = RowSelect::Stride { start: usize::MAX, step: usize::MAX, count: usize::MAX };
        let still = RowSelect::Stride { start: 0, step: 0, count: 1 };
        assert!(Selection::of(&[2, 3], &far).is_err());
        assert!(Selection::of(&[3], &Weight { index: Some(0), ..whole.clone() }).is_err());
        assert!(Selection::of(&[2, 3], &Weight::span("w", 1..3)).is_err());
        assert!(Selection::of(&[2, 3], &Weight::span("w", 1..1)).is_err());
        assert!(Selection::of(&[2, 3], &Weight { rows: huge, ..whole.clone() }).is_err());
        assert!(Selection::of(&[2, 3], &Weight { rows: still, ..whole.clone() }).is_err());
        assert!(Selection::of(&[2, 2, 3], &Weight { transpose: true, ..whole.clone() }).is_err());
        assert!(Selection::of(&[0, 3], &whole).is_err());
        assert!(Selection::of(&[], &whole).is_err());
        assert!(Selection::of(&[usize::MAX, 2], &whole).is_err());
    }
}
