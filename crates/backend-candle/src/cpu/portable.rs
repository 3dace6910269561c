//! The portable kernels: plain loops in the order of accumulation that all paths keep.
//!
//! Lanes. A dot product is sixteen partial sums. With quantised weights, lane `l` adds, in order, the blocks
//! `b = l, l + 16, …` of the row, each as `(S as f32) * (w_scale * x_scale)` (then its minimum's term), `S` being the
//! block's exact integer dot product. With float weights, lane `l` adds the products of elements `l, l + 16, …`. At the
//! end [`reduce`] folds the lanes in a fixed tree. Nothing here depends on other rows, so results do not either.

use super::block::{BLOCK, UnpackedRow};
use super::input::{GROUP, QuantisedInput};

/// Lanes of a dot product.
pub(super) const LANES: usize = 16;

/// Folds the lanes: halves onto halves, 8, 4, 2, 1.
pub(super) fn reduce(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

/// Dot product of an unpacked row and row `m` of the activations.
pub(super) fn dot_quantised(w: &UnpackedRow, x: &QuantisedInput, m: usize) -> f32 {
    let mut lanes = [0.0; LANES];
    let base = m * x.blocks;
    for (b, scale) in w.scale.iter().enumerate() {
        let at = base + b;
        let (wq, xq) = (&w.q[b * BLOCK..][..BLOCK], &x.q[at * BLOCK..][..BLOCK]);
        let halves = [dot16(&wq[..16], &xq[..16]), dot16(&wq[16..], &xq[16..])];
        let sums = x.sums[at].map(i32::from);
        let sum = match w.sub.get(b) {
            Some(sub) => sub[0] * halves[0] + sub[1] * halves[1],
            None => halves[0] + halves[1] + w.form.lift * (sums[0] + sums[1]),
        };
        let lane = &mut lanes[b % GROUP];
        *lane += sum as f32 * (scale * x.scale[at]);
        if let Some(min) = w.min.get(b) {
            *lane += match w.sub_min.get(b) {
                Some(sub) => (sub[0] * sums[0] + sub[1] * sums[1]) as f32 * (min * x.scale[at]),
                None => min * x.scaled_sum[at],
            };
        }
    }
    reduce(lanes)
}

/// Exact integer dot product of sixteen elements.
fn dot16(w: &[i8], x: &[i8]) -> i32 {
    w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
}

/// Dot product of float weights, widened by `weight`, and activations, both `cols` long.
pub(super) fn dot_float(cols: usize, weight: impl Fn(usize) -> f32, x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for start in (0..cols).step_by(LANES) {
        for (l, x) in x[start..cols.min(start + LANES)].iter().enumerate() {
            lanes[l] = fused(weight(start + l), *x, lanes[l]);
        }
    }
    reduce(lanes)
}

/// `a * b + c`, fused where the compilation target has the instruction (a library call where it does not is slow).
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
