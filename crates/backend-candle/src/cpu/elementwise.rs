//! Operations on single elements: biases, activations, the logits' scale and cap.

use perch_model::Activation;

use super::Cpu;
use super::simd::{Kernel, Lanes};

/// Elements that one part of a parallel region takes; fewer are not worth a second thread.
const CHUNK: usize = 8192;

/// Adds `bias` to every row of `x`, `[n, bias.len()]`.
pub(crate) fn add_rows(cpu: &Cpu, x: &mut [f32], bias: &[f32]) {
    let rows = (CHUNK / bias.len().max(1)).max(1);
    cpu.pool.run_chunks(x, rows * bias.len(), |_, x| {
        for row in x.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
    });
}

/// Multiplies every element by `factor`.
pub(crate) fn scale(cpu: &Cpu, x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        cpu.pool.run_chunks(x, CHUNK, |_, x| x.iter_mut().for_each(|x| *x *= factor));
    }
}

/// `cap * tanh(x / cap)`.
pub(crate) fn softcap(cpu: &Cpu, x: &mut [f32], cap: f32) {
    cpu.pool.run_chunks(x, CHUNK, |_, x| cpu.width.run(Softcap { x, cap }));
}

struct Softcap<'a> {
    x: &'a mut [f32],
    cap: f32,
}

impl Kernel for Softcap<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for i in (0..self.x.len()).step_by(L::N) {
            let (p, n) = (self.x[i..].as_mut_ptr(), self.x.len() - i);
            // SAFETY: `n` elements lie at `p`.
            unsafe {
                let x = L::load_some(p, n).mul(L::splat(1.0 / self.cap)).tanh();
                x.mul(L::splat(self.cap)).store_some(p, n);
            }
        }
    }
}

/// The non-linearity of an MLP, in place in `up`: `act(up)`, or `act(gate, up)`.
pub(crate) fn activate(cpu: &Cpu, activation: Activation, gate: Option<&[f32]>, up: &mut [f32]) {
    assert!(gate.is_none_or(|gate| gate.len() == up.len()), "gate and up have the same shape");
    cpu.pool.run_chunks(up, CHUNK, |part, up| {
        let gate = gate.map(|gate| &gate[part * CHUNK..][..up.len()]);
        cpu.width.run(Activate { activation, gate, up });
    });
}

struct Activate<'a> {
    activation: Activation,
    gate: Option<&'a [f32]>,
    up: &'a mut [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        for i in (0..self.up.len()).step_by(L::N) {
            let (p, n) = (self.up[i..].as_mut_ptr(), self.up.len() - i);
            // SAFETY: `n` elements lie at `p` and, from `i` on, in the gate.
            unsafe {
                let up = L::load_some(p, n);
                let (x, factor) = match self.gate {
                    Some(gate) => (L::load_some(gate.as_ptr().add(i), n), up),
                    None => (up, L::splat(1.0)),
                };
                apply::<L>(self.activation, x, factor).store_some(p, n);
            }
        }
    }
}

/// `act(x) * factor`.
#[inline(always)]
unsafe fn apply<L: Lanes>(activation: Activation, x: L, factor: L) -> L {
    // SAFETY: register arithmetic, inside a kernel.
    unsafe {
        match activation {
            Activation::ClampedSwiglu { alpha, limit } => {
                let x = x.min(L::splat(limit));
                let factor = factor.min(L::splat(limit)).max(L::splat(-limit)).add(L::splat(1.0));
                x.mul(x.mul(L::splat(alpha)).sigmoid()).mul(factor)
            }
            Activation::GeluTanh => {
                let cubic = x.fma(x.mul(x).mul(x), L::splat(0.044_715));
                let t = cubic.mul(L::splat(0.797_884_6)).tanh();
                x.mul(L::splat(0.5)).mul(t.add(L::splat(1.0))).mul(factor)
            }
            Activation::Gelu => x.mul(normal_cdf(x)).mul(factor),
            _ => x.mul(x.sigmoid()).mul(factor),
        }
    }
}

/// `(1 + erf(x / √2)) / 2` to 1e-7, by Abramowitz and Stegun's formula 7.1.26.
#[inline(always)]
unsafe fn normal_cdf<L: Lanes>(x: L) -> L {
    // SAFETY: register arithmetic, inside a kernel.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        let z = x.max(zero.sub(x)).mul(L::splat(std::f32::consts::FRAC_1_SQRT_2));
        let t = one.div(one.fma(z, L::splat(0.327_591_1)));
        let mut p = L::splat(1.061_405_4);
        for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = L::splat(c).fma(p, t);
        }
        // Half the complement of erf(z): the answer for negative x, and one minus the answer for others.
        let tail = p.mul(t).mul(zero.sub(z.mul(z)).exp()).mul(L::splat(0.5));
        one.sub(tail.add(tail)).keep_ge(x, zero).add(tail)
    }
}
