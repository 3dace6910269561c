//! The portable kernels: plain loops in the order of accumulation that all paths keep.
//!
//! Lanes. A dot product is sixteen partial sums. With quantised weights, lane `l` adds, in order, the blocks
//! `b = l, l + 16, …` of the row, each as `(S as f32) * (w_scale * x_scale)` (then its minimum's term), `S` being the
//! block's exact integer dot product. With float weights, lane `l` adds the products of elements `l, l + 16, …`. At the
//! end [`reduce`] folds the lanes in a fixed tree. Nothing here depends on other rows, so results do not either.

use std::ops::Range;

use perch_model::DType;

use super::block::{BLOCK, Form, UnpackedRow};
use super::input::{GROUP, Group, Input};
use super::kernel::{Kernel, Need};
use super::task::Task;

/// Lanes of a dot product.
const LANES: usize = 16;

/// Folds the lanes: halves onto halves, 8, 4, 2, 1.
fn reduce(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
    }
    lanes[0]
}

/// The kernel for weights of type `dtype`.
pub(super) fn kernel(dtype: DType) -> Option<Kernel> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => {
            Some(Kernel { need: Need::Plain, dot: run_float, panel: None })
        }
        _ => Form::of(dtype).map(|_| Kernel { need: Need::Quantised, dot: run_quantised, panel: None }),
    }
}

/// See [`Dot`](super::kernel::Dot).
unsafe fn run_quantised(task: &Task<'_>, rows: Range<usize>, x: &Input<'_>) {
    let weight = task.weight;
    let Some(form) = Form::of(weight.dtype()) else { return };
    let mut unpacked = UnpackedRow::new(form, weight.cols());
    for row in rows {
        unpacked.unpack(weight.dtype(), weight.row(row));
        for j in 0..task.select.len() {
            let value = dot_quantised(&unpacked, x.quantised().row(task.select.row(j)));
            // SAFETY: the caller's.
            unsafe { task.out.put(j, row, value) };
        }
    }
}

/// See [`Dot`](super::kernel::Dot).
unsafe fn run_float(task: &Task<'_>, rows: Range<usize>, x: &Input<'_>) {
    let weight = task.weight;
    let mut widened = vec![0.0; weight.cols()];
    for row in rows {
        weight.row_f32(row, &mut widened);
        for j in 0..task.select.len() {
            let value = dot_float(&widened, x.row(task.select.row(j)));
            // SAFETY: the caller's.
            unsafe { task.out.put(j, row, value) };
        }
    }
}

/// Dot product of an unpacked row and a row of activations.
fn dot_quantised(w: &UnpackedRow, x: &[Group]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (b, scale) in w.scale.iter().enumerate() {
        let (x, l) = (&x[b / GROUP], b % GROUP);
        let q: &[i8; GROUP * BLOCK] = bytemuck::cast_ref(&x.q);
        let (wq, xq) = (&w.q[b * BLOCK..][..BLOCK], &q[l * BLOCK..][..BLOCK]);
        let halves = [dot16(&wq[..16], &xq[..16]), dot16(&wq[16..], &xq[16..])];
        let [first, second]: [i16; 2] = bytemuck::cast(x.sums[l]);
        let sums = [i32::from(first), i32::from(second)];
        let x_scale = f32::from_bits(x.scale[l]);
        let sum = match w.sub.get(b) {
            Some(sub) => sub[0] * halves[0] + sub[1] * halves[1],
            None => halves[0] + halves[1] + w.form.lift * (sums[0] + sums[1]),
        };
        lanes[l] += sum as f32 * (scale * x_scale);
        if let Some(min) = w.min.get(b) {
            lanes[l] += match w.sub_min.get(b) {
                Some(sub) => (sub[0] * sums[0] + sub[1] * sums[1]) as f32 * (min * x_scale),
                None => min * f32::from_bits(x.scaled_sum[l]),
            };
        }
    }
    reduce(lanes)
}

/// Exact integer dot product of sixteen elements.
fn dot16(w: &[i8], x: &[i8]) -> i32 {
    w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
}

/// Quantises a row of activations, in the order of the row.
#[inline(always)]
pub(super) fn quantise(x: &[f32], row: &mut [Group]) {
    for (x, group) in x.chunks(GROUP * BLOCK).zip(row) {
        *group = bytemuck::Zeroable::zeroed();
        let q: &mut [i8; GROUP * BLOCK] = bytemuck::cast_mut(&mut group.q);
        for (l, (x, q)) in x.chunks_exact(BLOCK).zip(q.chunks_exact_mut(BLOCK)).enumerate() {
            // As integers the magnitudes order like the floats, with NaN on top.
            let bits = x.iter().fold(0, |max, v| max.max(v.to_bits() & 0x7fff_ffff));
            let max = f32::from_bits(bits);
            let inverse = if max > 0.0 { 127.0 / max } else { 0.0 };
            for (q, v) in q.iter_mut().zip(x) {
                *q = (v * inverse).round_ties_even() as i8;
            }
            let sum = |half: &[i8]| half.iter().map(|v| i16::from(*v)).sum::<i16>();
            let (scale, sums) = (max / 127.0, [sum(&q[..16]), sum(&q[16..])]);
            group.scale[l] = scale.to_bits();
            group.scaled_sum[l] = (scale * f32::from(sums[0] + sums[1])).to_bits();
            group.sums[l] = bytemuck::cast(sums);
        }
    }
}

/// Dot product of widened float weights and activations.
fn dot_float(w: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (w, w_tail) = w.as_chunks::<LANES>();
    let (x, x_tail) = x.as_chunks::<LANES>();
    for (w, x) in w.iter().zip(x) {
        for l in 0..LANES {
            lanes[l] = fused(w[l], x[l], lanes[l]);
        }
    }
    for ((lane, w), x) in lanes.iter_mut().zip(w_tail).zip(x_tail) {
        *lane = fused(*w, *x, *lane);
    }
    reduce(lanes)
}

/// `a * b + c`, fused where the compilation target has the instruction (a library call where it does not is slow).
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}
