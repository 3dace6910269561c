//! Random weights and activations for the kernels' tests.

use half::f16;
use perch_model::quant::quantize_row;
use perch_model::{DType, Tensor};

/// Every block type.
pub(crate) const QUANTISED: [DType; 12] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Affine8,
    DType::Mxfp4,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
];

/// Every float type.
pub(crate) const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A small generator, so that a failing case is the same everywhere (splitmix64).
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Roughly normal, variance about 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let uniform = |bits: u64| (bits >> 40) as f32 / (1 << 24) as f32 - 0.5;
        (0..6).map(|_| uniform(self.next())).sum::<f32>() * 1.41
    }

    /// `n` rows of `cols` activations, with an outlier here and there as real ones have.
    pub(crate) fn activations(&mut self, n: usize, cols: usize) -> Vec<f32> {
        let outlier = |r: &mut Self| if r.below(100) == 0 { 12.0 } else { 1.0 };
        (0..n * cols).map(|_| self.normal() * outlier(self)).collect()
    }
}

/// Random weights: every bit of every block is drawn, but for the scales, which stay near 1/100.
pub(crate) fn random_weights(dtype: DType, rows: usize, cols: usize, seed: u64) -> Tensor {
    let mut random = Random(seed);
    let mut bytes = vec![0; dtype.row_bytes(cols).unwrap() * rows];
    if FLOATS.contains(&dtype) {
        let values: Vec<f32> = (0..rows * cols).map(|_| random.normal() * 0.05).collect();
        assert!(quantize_row(dtype, &values, &mut bytes));
        return Tensor::owned(dtype, rows, cols, bytes).unwrap();
    }
    for byte in &mut bytes {
        *byte = random.next() as u8;
    }
    let halves: &[usize] = match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Affine8 | DType::Q4K | DType::Q5K => &[0, 2],
        DType::Q2K => &[80, 82],
        DType::Q3K => &[108],
        DType::Q6K => &[208],
        _ => &[],
    };
    for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
        for at in halves {
            let scale = f16::from_f32(random.normal() * 0.01).to_le_bytes();
            block[*at..at + 2].copy_from_slice(&scale);
        }
        if dtype == DType::Mxfp4 {
            block[0] = 118 + random.below(6) as u8;
        }
    }
    Tensor::owned(dtype, rows, cols, bytes).unwrap()
}
