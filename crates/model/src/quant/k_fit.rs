//! Finds the scales of K blocks: for each sub-block, the grid that its elements lose least to.
//!
//! ggml's search (`make_qkx2_quants`, `make_qx_quants`): try a range of slightly wider and narrower grids, fit scale
//! and minimum to each rounding by weighted least squares, keep the best. It is done here for eight sub-blocks at a
//! time, one in each lane, so that the compiler can use vector instructions while every lane still adds its elements in
//! ggml's order: the result is ggml's, bit by bit.

use super::nearest;

/// One value for each of eight sub-blocks.
pub(super) type Lanes = [f32; 8];

/// Scale and minimum of eight sub-blocks: element `x` is near `scale * q + min`, `min` ≤ 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Affine {
    pub(super) scale: Lanes,
    pub(super) min: Lanes,
}

/// Applies `f` in every lane.
#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> Lanes {
    std::array::from_fn(f)
}

/// Fits `q` in 0..=15 to eight sub-blocks of 32 elements: `x[i][lane]` is element `i` of sub-block `lane`.
pub(super) fn affine(x: &[Lanes; 32]) -> Affine {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        return unsafe { affine_avx2(x) };
    }
    affine_in_lanes(x)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn affine_avx2(x: &[Lanes; 32]) -> Affine {
    affine_in_lanes(x)
}

#[inline(always)]
fn affine_in_lanes(x: &[Lanes; 32]) -> Affine {
    const TOP: f32 = 15.0;
    let (mut low, mut high, mut squares) = (x[0], x[0], [0.0; 8]);
    for row in x {
        for l in 0..8 {
            low[l] = if row[l] < low[l] { row[l] } else { low[l] };
            high[l] = if row[l] > high[l] { row[l] } else { high[l] };
            squares[l] += row[l] * row[l];
        }
    }
    let low = lanes(|l| if low[l] > 0.0 { 0.0 } else { low[l] });
    // Large elements matter more, and all matter somewhat.
    let base = lanes(|l| (squares[l] / 32.0).sqrt());
    let mut weights = [[0.0; 8]; 32];
    let (mut sum_w, mut sum_x) = ([0.0; 8], [0.0; 8]);
    for (row, w) in x.iter().zip(&mut weights) {
        for l in 0..8 {
            w[l] = base[l] + row[l].abs();
            sum_w[l] += w[l];
            sum_x[l] += w[l] * row[l];
        }
    }

    let mut q = [[0.0; 8]; 32];
    let inverse = lanes(|l| TOP / (high[l] - low[l]));
    let mut best = Affine { scale: lanes(|l| 1.0 / inverse[l]), min: low };
    for (row, q) in x.iter().zip(&mut q) {
        for l in 0..8 {
            q[l] = nearest(inverse[l] * (row[l] - low[l])).clamp(0.0, TOP);
        }
    }
    let mut best_error = error(x, &weights, &q, &best);
    for step in 0..=20 {
        let top = -1.0 + 0.1 * step as f32 + TOP;
        let from = best.min; // A better minimum is where the next grids begin.
        let inverse = lanes(|l| top / (high[l] - from[l]));
        let (mut sum_q, mut sum_qq, mut sum_xq) = ([0.0; 8], [0.0; 8], [0.0; 8]);
        for ((row, w), q) in x.iter().zip(&weights).zip(&mut q) {
            for l in 0..8 {
                q[l] = nearest(inverse[l] * (row[l] - from[l])).clamp(0.0, TOP);
                sum_q[l] += w[l] * q[l];
                sum_qq[l] += w[l] * q[l] * q[l];
                sum_xq[l] += w[l] * q[l] * row[l];
            }
        }
        let det = lanes(|l| sum_w[l] * sum_qq[l] - sum_q[l] * sum_q[l]);
        let mut fit = Affine {
            scale: lanes(|l| (sum_w[l] * sum_xq[l] - sum_x[l] * sum_q[l]) / det[l]),
            min: lanes(|l| (sum_qq[l] * sum_x[l] - sum_q[l] * sum_xq[l]) / det[l]),
        };
        for l in 0..8 {
            if fit.min[l] > 0.0 {
                fit.min[l] = 0.0;
                fit.scale[l] = sum_xq[l] / sum_qq[l];
            }
        }
        let fit_error = error(x, &weights, &q, &fit);
        for l in 0..8 {
            if det[l] > 0.0 && fit_error[l] < best_error[l] {
                (best.scale[l], best.min[l], best_error[l]) = (fit.scale[l], fit.min[l], fit_error[l]);
            }
        }
    }
    for l in 0..8 {
        if high[l] == low[l] {
            (best.scale[l], best.min[l]) = (0.0, low[l]);
        }
    }
    best
}

/// Weighted squared error of `x` rounded to `q`.
#[inline(always)]
fn error(x: &[Lanes; 32], weights: &[Lanes; 32], q: &[Lanes; 32], fit: &Affine) -> Lanes {
    let mut sum = [0.0; 8];
    for ((row, w), q) in x.iter().zip(weights).zip(q) {
        for l in 0..8 {
            let diff = fit.scale[l] * q[l] + fit.min[l] - row[l];
            sum[l] += w[l] * (diff * diff);
        }
    }
    sum
}

/// Fits `q` in -32..=31 to eight sub-blocks of 16 elements, laid out as in [`affine`]; returns their scales, which may
/// be negative: the element of largest magnitude goes to -32.
pub(super) fn symmetric(x: &[Lanes; 16]) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked.
        return unsafe { symmetric_avx2(x) };
    }
    symmetric_in_lanes(x)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn symmetric_avx2(x: &[Lanes; 16]) -> Lanes {
    symmetric_in_lanes(x)
}

#[inline(always)]
fn symmetric_in_lanes(x: &[Lanes; 16]) -> Lanes {
    let mut max = [0.0f32; 8];
    for row in x {
        for l in 0..8 {
            max[l] = if row[l].abs() > max[l].abs() { row[l] } else { max[l] };
        }
    }
    let (mut scale, mut best) = ([0.0; 8], [0.0; 8]);
    // The plain grid first, then nine narrower and nine wider ones.
    for step in std::iter::once(0).chain((-9..=9).filter(|step| *step != 0)) {
        let inverse = lanes(|l| -(32.0 + 0.1 * step as f32) / max[l]);
        let (mut sum_xq, mut sum_qq) = ([0.0; 8], [0.0; 8]);
        for row in x {
            for l in 0..8 {
                let q = nearest(inverse[l] * row[l]).clamp(-32.0, 31.0);
                let w = row[l] * row[l];
                sum_xq[l] += w * row[l] * q;
                sum_qq[l] += w * q * q;
            }
        }
        for l in 0..8 {
            if sum_qq[l] > 0.0 && (step == 0 || sum_xq[l] * sum_xq[l] > best[l] * sum_qq[l]) {
                scale[l] = sum_xq[l] / sum_qq[l];
                best[l] = scale[l] * sum_xq[l];
            }
        }
    }
    lanes(|l| if max[l].abs() < 1e-15 { 0.0 } else { scale[l] })
}
