//! Finds the scales of K blocks: for each sub-block, the grid that its elements lose least to.
//!
//! ggml's search (`make_qkx2_quants`, `make_qx_quants`): try a range of slightly wider and narrower grids, fit scale
//! and minimum to each rounding by weighted least squares, keep the best. It is done here for eight sub-blocks at a
//! time, one in each lane, so that the compiler can use vector instructions while every lane still adds its elements in
//! ggml's order.

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
    let fold = |f: fn(f32, f32) -> f32| x[1..].iter().fold(x[0], |acc, row| lanes(|l| f(acc[l], row[l])));
    let low = fold(f32::min).map(|min| min.min(0.0));
    let high = fold(f32::max);
    let squares = x.iter().fold([0.0; 8], |acc, row| lanes(|l| acc[l] + row[l] * row[l]));
    // Large elements matter more, and all matter somewhat.
    let base = squares.map(|sum| (sum / 32.0).sqrt());
    let weight = |row: &Lanes| lanes(|l| base[l] + row[l].abs());
    let (mut sum_w, mut sum_x) = ([0.0; 8], [0.0; 8]);
    for row in x {
        let w = weight(row);
        sum_w = lanes(|l| sum_w[l] + w[l]);
        sum_x = lanes(|l| sum_x[l] + w[l] * row[l]);
    }
    let error = |inverse: &Lanes, from: &Lanes, fit: &Affine| {
        x.iter().fold([0.0; 8], |acc, row| {
            let w = weight(row);
            lanes(|l| {
                let q = nearest(inverse[l] * (row[l] - from[l])).clamp(0.0, TOP);
                let diff = fit.scale[l] * q + fit.min[l] - row[l];
                acc[l] + w[l] * (diff * diff)
            })
        })
    };

    let inverse = lanes(|l| TOP / (high[l] - low[l]));
    let mut best = Affine { scale: inverse.map(|i| 1.0 / i), min: low };
    let mut best_error = error(&inverse, &low, &best);
    for step in 0..=20 {
        let top = -1.0 + 0.1 * step as f32 + TOP;
        let from = best.min; // A better minimum is where the next grids begin.
        let inverse = lanes(|l| top / (high[l] - from[l]));
        let (mut sum_q, mut sum_qq, mut sum_xq) = ([0.0; 8], [0.0; 8], [0.0; 8]);
        for row in x {
            let w = weight(row);
            let q = lanes(|l| nearest(inverse[l] * (row[l] - from[l])).clamp(0.0, TOP));
            sum_q = lanes(|l| sum_q[l] + w[l] * q[l]);
            sum_qq = lanes(|l| sum_qq[l] + w[l] * q[l] * q[l]);
            sum_xq = lanes(|l| sum_xq[l] + w[l] * q[l] * row[l]);
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
        let fit_error = error(&inverse, &from, &fit);
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
    let max = x
        .iter()
        .fold([0.0f32; 8], |max, row| lanes(|l| if row[l].abs() > max[l].abs() { row[l] } else { max[l] }));
    let (mut scale, mut best) = ([0.0; 8], [0.0; 8]);
    // The plain grid first, then nine narrower and nine wider ones.
    for step in std::iter::once(0).chain((-9..=9).filter(|step| *step != 0)) {
        let inverse = max.map(|max| -(32.0 + 0.1 * step as f32) / max);
        let (mut sum_xq, mut sum_qq) = ([0.0; 8], [0.0; 8]);
        for row in x {
            let q = lanes(|l| nearest(inverse[l] * row[l]).clamp(-32.0, 31.0));
            let w = lanes(|l| row[l] * row[l]);
            sum_xq = lanes(|l| sum_xq[l] + w[l] * row[l] * q[l]);
            sum_qq = lanes(|l| sum_qq[l] + w[l] * q[l] * q[l]);
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
