//! `Quantize`: which type a float matrix is rounded to while it is loaded, and the rounding of a whole matrix.
//!
//! Only the rounded matrix is ever whole in memory; floats exist for a few rows at a time, on every core.

use std::str::FromStr;

use super::quantize_row;
use crate::{DType, Tensor, panels};

/// What F32, F16 and BF16 matrices become on load. Weights that are quantised already stay as they are.
///
/// It is meant for linear layers. Callers pass `None` for norms, biases, sinks and routers, which are small and
/// sensitive, and [`Quantize::for_embedding`] for the embedding and the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quantize {
    /// Eight bits, one scale for 32 elements: 8.5 bits a weight. Practically lossless.
    Q8_0,
    /// Four bits, one scale for 32 elements: 4.5 bits a weight.
    Q4_0,
    /// Four bits, two-level scales and minima: 4.5 bits a weight, and much closer to the original than Q4_0.
    Q4K,
    /// Six bits, two-level scales: 6.6 bits a weight. What Q4_K files use where four bits cost most.
    Q6K,
}

impl Quantize {
    /// What to use for the embedding and the head when the layers get `self`: their rows are single tokens, and errors
    /// in them show most. Q4_K takes Q6_K there, as llama.cpp does; Q4_0 takes Q8_0.
    pub fn for_embedding(self) -> Self {
        match self {
            Self::Q4K => Self::Q6K,
            Self::Q4_0 => Self::Q8_0,
            other => other,
        }
    }

    /// What to use for the value and down projections of layer `layer` of `layers` when the other projections get
    /// `self`. With Q4_K, half of them take Q6_K: the first eighth, the last eighth and every third between (the mix
    /// that llama.cpp calls Q4_K_M).
    pub fn for_value_or_down(self, layer: usize, layers: usize) -> Self {
        let eighth = layers / 8;
        let sensitive = layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
        match self {
            Self::Q4K if sensitive => Self::Q6K,
            other => other,
        }
    }

    /// The type that a matrix of type `dtype` with `cols` columns becomes; `None` where it stays as it is.
    ///
    /// Columns that are not a whole number of 256-element blocks get Q8_0 in place of Q4_K and Q6_K: larger, never
    /// worse. Columns that are not a multiple of 32 stay floats.
    pub fn target(self, dtype: DType, cols: usize) -> Option<DType> {
        if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16) {
            return None;
        }
        let wanted = match self {
            Self::Q8_0 => DType::Q8_0,
            Self::Q4_0 => DType::Q4_0,
            Self::Q4K => DType::Q4K,
            Self::Q6K => DType::Q6K,
        };
        [wanted, DType::Q8_0].into_iter().find(|dtype| dtype.row_bytes(cols).is_some())
    }
}

impl FromStr for Quantize {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "q8_0" => Ok(Self::Q8_0),
            "q4_0" => Ok(Self::Q4_0),
            "q4_k" => Ok(Self::Q4K),
            "q6_k" => Ok(Self::Q6K),
            _ => Err(format!("{name:?} is no quantisation; q8_0, q4_k, q4_0 and q6_k are")),
        }
    }
}

/// A matrix whose rows can be had as floats.
pub(crate) trait RowSource: Sync {
    /// Writes the rows from `first` on, as many as `out` holds.
    fn read(&self, first: usize, out: &mut [f32]);
}

/// Rounds a matrix of `rows × cols` to `dtype`; `None` where `dtype` cannot be made or the sizes do not fit it.
pub(crate) fn quantize_matrix(
    dtype: DType,
    (rows, cols): (usize, usize),
    source: &dyn RowSource,
) -> Option<Tensor> {
    let row_bytes = dtype.row_bytes(cols)?;
    panels::build(dtype, rows, cols, |first, panel| {
        let mut values = vec![0.0; panel.len() / row_bytes * cols];
        source.read(first, &mut values);
        let rows = values.chunks_exact(cols).zip(panel.chunks_exact_mut(row_bytes));
        for (values, out) in rows {
            quantize_row(dtype, values, out);
        }
    })
}
