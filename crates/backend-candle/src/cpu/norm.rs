//! RMS norm and layer norm of rows, alone and joined with the residual addition before them.
//!
//! Sums run over four registers in turn and are folded at the end, in the same order for every call, so that a row's
//! result does not depend on the rows beside it.

use perch_model::NormKind;

use super::Cpu;
use super::pool::SendPtr;
use super::simd::{Kernel, Lanes};

/// The weights of a norm, its offset already added.
#[derive(Debug, Clone)]
pub(crate) struct NormWeights {
    /// Which norm.
    pub(crate) kind: NormKind,
    /// Multiplies the normalised row; its length is the row's.
    pub(crate) weight: Vec<f32>,
    /// Added after.
    pub(crate) bias: Option<Vec<f32>>,
    /// Added to the variance.
    pub(crate) eps: f32,
}

/// How a branch joins the residual stream: `x += scale * post(branch)`, then `next(x)` is the next branch's input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Join<'a> {
    /// Norm on the branch.
    pub(crate) post: Option<&'a NormWeights>,
    /// Multiplies it.
    pub(crate) scale: f32,
    /// Norm on the sum; `None` copies it.
    pub(crate) next: Option<&'a NormWeights>,
}

/// Rows that one part of a parallel region takes at least; fewer are not worth a second thread.
const ROWS: usize = 8;

/// `out = norm(x)` for rows of `norm.weight.len()` elements.
pub(crate) fn norm(cpu: &Cpu, norm: &NormWeights, x: &[f32], out: &mut [f32]) {
    let width = norm.weight.len();
    assert_eq!(x.len(), out.len(), "a norm keeps the shape");
    cpu.pool.run_chunks(out, ROWS * width, |part, out| {
        let x = &x[part * ROWS * width..][..out.len()];
        cpu.width.run(Rows { norm, x, out });
    });
}

struct Rows<'a> {
    norm: &'a NormWeights,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.norm.weight.len();
        for (x, out) in self.x.chunks_exact(width).zip(self.out.chunks_exact_mut(width)) {
            // SAFETY: both rows have the norm's width.
            unsafe { norm_row::<L>(self.norm, x.as_ptr(), out.as_mut_ptr()) };
        }
    }
}

/// Joins a branch to the residual stream: from `[x, branch]` to the new stream and the next branch's input, all
/// `[n, width]`. Outputs are written before they are read.
pub(crate) fn join(cpu: &Cpu, join: Join<'_>, [x, branch]: [&[f32]; 2], [sum, next]: [&mut [f32]; 2]) {
    let all = x.len();
    assert!(branch.len() == all && sum.len() == all && next.len() == all, "a residual keeps the shape");
    let width = join.next.or(join.post).map_or(all, |norm| norm.weight.len());
    let next = SendPtr(next.as_mut_ptr());
    cpu.pool.run_chunks(sum, ROWS * width, |part, sum| {
        let start = part * ROWS * width;
        // SAFETY: parts of `sum` are disjoint, so these ranges of `next` are, and both have the same length.
        let next = unsafe { std::slice::from_raw_parts_mut(next.get().add(start), sum.len()) };
        let [x, branch] = [x, branch].map(|all| &all[start..][..sum.len()]);
        cpu.width.run(Joining { join, width, x, branch, sum, next });
    });
}

struct Joining<'a> {
    join: Join<'a>,
    width: usize,
    x: &'a [f32],
    branch: &'a [f32],
    sum: &'a mut [f32],
    next: &'a mut [f32],
}

impl Kernel for Joining<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let width = self.width;
        for start in (0..self.sum.len()).step_by(width) {
            // SAFETY: all rows have `width` elements; the norms' weights too (checked when they were loaded).
            unsafe {
                let (x, branch) = (self.x.as_ptr().add(start), self.branch.as_ptr().add(start));
                let (sum, next) = (self.sum.as_mut_ptr().add(start), self.next.as_mut_ptr().add(start));
                let mut addend = branch;
                if let Some(post) = self.join.post {
                    norm_row::<L>(post, branch, next);
                    addend = next;
                }
                let scale = L::splat(self.join.scale);
                for i in (0..width).step_by(L::N) {
                    let n = width - i;
                    let row = L::load_some(x.add(i), n).fma(L::load_some(addend.add(i), n), scale);
                    row.store_some(sum.add(i), n);
                }
                match self.join.next {
                    Some(norm) => norm_row::<L>(norm, sum, next),
                    None => std::ptr::copy_nonoverlapping(sum, next, width),
                }
            }
        }
    }
}

/// `out = norm(x)` for one row; `out` may be `x`.
///
/// # Safety
/// `norm.weight.len()` elements lie at `x` and at `out`, and in the bias.
#[inline(always)]
pub(super) unsafe fn norm_row<L: Lanes>(norm: &NormWeights, x: *const f32, out: *mut f32) {
    let len = norm.weight.len();
    // SAFETY: every access is below `len`.
    unsafe {
        let mean = match norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => fold::<L>(x, len, |sum, x| sum.add(x)) / len as f32,
        };
        let centre = L::splat(mean);
        let squares = match norm.kind {
            NormKind::Rms => fold::<L>(x, len, |sum, x| sum.fma(x, x)),
            NormKind::Layer => variance::<L>(x, len, centre),
        };
        let scale = L::splat(1.0 / (squares / len as f32 + norm.eps).sqrt());
        for i in (0..len).step_by(L::N) {
            let n = len - i;
            let normalised = L::load_some(x.add(i), n).sub(centre).mul(scale);
            let weight = L::load_some(norm.weight.as_ptr().add(i), n);
            let y = match &norm.bias {
                Some(bias) => L::load_some(bias.as_ptr().add(i), n).fma(normalised, weight),
                None => normalised.mul(weight),
            };
            y.store_some(out.add(i), n);
        }
    }
}

/// Folds a row (padded with zeros, which must be neutral) into four registers in turn, and these into one number.
#[inline(always)]
unsafe fn fold<L: Lanes>(x: *const f32, len: usize, f: impl Fn(L, L) -> L) -> f32 {
    // SAFETY: every access is below `len`.
    unsafe {
        let mut sums = [L::splat(0.0); 4];
        let whole = len - len % (4 * L::N);
        for i in (0..whole).step_by(4 * L::N) {
            for (lane, sum) in sums.iter_mut().enumerate() {
                *sum = f(*sum, L::load(x.add(i + lane * L::N)));
            }
        }
        for (lane, i) in (whole..len).step_by(L::N).enumerate() {
            sums[lane] = f(sums[lane], L::load_some(x.add(i), len - i));
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

/// Sum of squared distances from `centre`.
#[inline(always)]
unsafe fn variance<L: Lanes>(x: *const f32, len: usize, centre: L) -> f32 {
    // SAFETY: every access is below `len`.
    unsafe {
        let whole = len - len % L::N;
        let mut sum = fold::<L>(x, whole, |sum, x| {
            let d = x.sub(centre);
            sum.fma(d, d)
        });
        let mut mean = [0.0; 16];
        centre.store(mean.as_mut_ptr());
        for i in whole..len {
            let d = *x.add(i) - mean[0];
            sum += d * d;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::pool::Pool;
    use super::super::simd::Width;
    use super::*;

    const WIDTHS: [usize; 6] = [1, 5, 16, 67, 128, 1000];

    fn weights(kind: NormKind, width: usize) -> NormWeights {
        let weight = (0..width).map(|i| 0.5 + i as f32 / width as f32).collect();
        let bias = (kind == NormKind::Layer).then(|| (0..width).map(|i| i as f32 / 100.0).collect());
        NormWeights { kind, weight, bias, eps: 1e-5 }
    }

    fn rows(width: usize) -> Vec<f32> {
        (0..11 * width).map(|i| ((i * 2_654_435_761) % 1009) as f32 / 100.0 - 3.0).collect()
    }

    /// A norm by its definition.
    fn expected(norm: &NormWeights, x: &[f32]) -> Vec<f64> {
        let width = norm.weight.len();
        let row = |x: &[f32]| {
            let x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let mean = if norm.kind == NormKind::Layer { x.iter().sum::<f64>() / width as f64 } else { 0.0 };
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let scale = (variance + f64::from(norm.eps)).sqrt();
            let bias = |i: usize| norm.bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
            (0..width)
                .map(|i| (x[i] - mean) / scale * f64::from(norm.weight[i]) + bias(i))
                .collect::<Vec<_>>()
        };
        x.chunks_exact(width).flat_map(row).collect()
    }

    fn close(found: &[f32], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let off = (f64::from(*found) - expected).abs() / expected.abs().max(1.0);
            assert!(off < 3e-6, "{what}: {found}, not {expected}");
        }
    }

    #[test]
    fn norms_of_any_width_are_their_definition() {
        for width in Width::available() {
            let cpu = Cpu { pool: Arc::new(Pool::new(2)), width };
            for (kind, len) in
                [NormKind::Rms, NormKind::Layer].into_iter().flat_map(|k| WIDTHS.map(|w| (k, w)))
            {
                let (weights, x) = (weights(kind, len), rows(len));
                let mut out = vec![f32::NAN; x.len()];
                norm(&cpu, &weights, &x, &mut out);
                close(&out, &expected(&weights, &x), &format!("{kind:?} of {len} on {width:?}"));
            }
        }
    }

    #[test]
    fn a_branch_joins_by_its_norm_and_scale_and_leaves_the_next_input() {
        for width in Width::available() {
            let cpu = Cpu { pool: Arc::new(Pool::new(2)), width };
            for len in WIDTHS {
                let (post, next) = (weights(NormKind::Rms, len), weights(NormKind::Layer, len));
                let (x, branch) = (rows(len), rows(len).into_iter().rev().collect::<Vec<_>>());
                let how = Join { post: Some(&post), scale: 0.25, next: Some(&next) };
                let (mut sum, mut input) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                join(&cpu, how, [&x, &branch], [&mut sum, &mut input]);
                let added = expected(&post, &branch);
                let total: Vec<f64> = x.iter().zip(added).map(|(x, y)| f64::from(*x) + 0.25 * y).collect();
                close(&sum, &total, "sum");
                close(&input, &expected(&next, &sum), "next input");
                join(
                    &cpu,
                    Join { post: None, scale: 1.0, next: None },
                    [&x, &branch],
                    [&mut sum, &mut input],
                );
                assert_eq!(sum, x.iter().zip(&branch).map(|(x, y)| x + y).collect::<Vec<_>>());
                assert_eq!(input, sum);
            }
        }
    }
}
