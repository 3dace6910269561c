//! Finds tensors and says what they are: vectors, norms, linear layers. Every one is checked against the checkpoint.

use std::ops::Range;

use super::context::Context;
use super::dims::RMS_EPS;
use crate::{Linear, ModelError, Norm, NormKind, RowSelect, Weight};

/// How a family normalises.
#[derive(Debug, Clone, Copy)]
pub(super) struct NormStyle {
    pub(super) kind: NormKind,
    pub(super) eps: f32,
    /// See [`Norm::offset`].
    pub(super) offset: f32,
}

impl Context<'_> {
    /// RMS norm with the config's epsilon.
    pub(super) fn rms(&self) -> Result<NormStyle, ModelError> {
        let eps = self.number(RMS_EPS)?.unwrap_or(1e-6) as f32;
        if !(0.0..1.0).contains(&eps) {
            return Err(self.invalid(format!("{:?} should lie between 0 and 1", self.key(RMS_EPS))));
        }
        Ok(NormStyle { kind: NormKind::Rms, eps, offset: 0.0 })
    }

    /// Whether the checkpoint has tensor `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors().has(name)
    }

    /// Checks that tensor `name` is there, with `shape`.
    pub(super) fn expect(&self, name: &str, shape: &[usize]) -> Result<(), ModelError> {
        match self.tensors().shape(name) {
            None => Err(self.invalid(format!("tensor {name:?} is missing"))),
            Some(found) if found == shape => Ok(()),
            Some(found) => Err(self
                .invalid(format!("tensor {name:?} has shape {found:?}, but the config makes it {shape:?}"))),
        }
    }

    /// All of tensor `name`, checked to have `shape`.
    pub(super) fn weight(&self, name: String, shape: &[usize]) -> Result<Weight, ModelError> {
        self.expect(&name, shape)?;
        Ok(Weight::new(name))
    }

    /// The norm whose tensors begin with `prefix`, over `len` elements.
    pub(super) fn norm(&self, prefix: &str, len: usize, style: NormStyle) -> Result<Norm, ModelError> {
        let bias = format!("{prefix}.bias");
        Ok(Norm {
            kind: style.kind,
            weight: self.weight(format!("{prefix}.weight"), &[len])?,
            offset: style.offset,
            bias: if self.has(&bias) { Some(self.weight(bias, &[len])?) } else { None },
            eps: style.eps,
        })
    }

    /// The linear layer whose tensors begin with `prefix`, with a bias if there is one.
    pub(super) fn linear(&self, prefix: &str, rows: usize, cols: usize) -> Result<Linear, ModelError> {
        self.linear_rows(prefix, rows, cols, 0..rows)
    }

    /// Rows `range` of a linear layer that stacks several, `total` rows in all.
    pub(super) fn linear_rows(
        &self,
        prefix: &str,
        total: usize,
        cols: usize,
        range: Range<usize>,
    ) -> Result<Linear, ModelError> {
        let rows = match range.len() == total {
            true => RowSelect::All,
            false => RowSelect::Span { start: range.start, count: range.len() },
        };
        let bias = format!("{prefix}.bias");
        let bias = if self.has(&bias) { Some(self.weight(bias, &[total])?) } else { None };
        Ok(Linear {
            weight: Weight { rows, ..self.weight(format!("{prefix}.weight"), &[total, cols])? },
            bias: bias.map(|bias| Weight { rows, ..bias }),
            rows: range.len(),
            cols,
        })
    }
}
