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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::pool::Pool;
    use super::super::simd::Width;
    use super::*;

    /// Odd lengths, so that the last register is not full.
    const LEN: usize = CHUNK + 37;

    fn cpus() -> impl Iterator<Item = Cpu> {
        Width::available().into_iter().map(|width| Cpu { pool: Arc::new(Pool::new(2)), width })
    }

    /// From −12 to 12, both ends and zero included.
    fn ramp() -> Vec<f32> {
        (0..LEN).map(|i| 24.0 * i as f32 / (LEN - 1) as f32 - 12.0).collect()
    }

    fn close(found: &[f32], expected: impl Fn(usize) -> f64, tolerance: f64, what: &str) {
        for (i, found) in found.iter().enumerate() {
            let expected = expected(i);
            let off = (f64::from(*found) - expected).abs() / expected.abs().max(1.0);
            assert!(off < tolerance, "{what} at {i}: {found}, not {expected}");
        }
    }

    /// The error function by its series, which double precision sums to 1e-7 up to 4.5; beyond, it is 1 to 1e-9.
    fn erf(x: f64) -> f64 {
        if x.abs() > 4.5 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn activations_are_what_their_papers_say() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let swiglu = |x: f64| x.min(7.0) * sigmoid(1.702 * x.min(7.0)) * 2.5;
        let tanh = |x: f64| {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        };
        let cases: [(Activation, &dyn Fn(f64) -> f64); 4] = [
            (Activation::Silu, &|x| x * sigmoid(x) * 1.5),
            (Activation::GeluTanh, &|x| tanh(x) * 1.5),
            (Activation::Gelu, &|x| 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt())) * 1.5),
            (Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 }, &swiglu),
        ];
        let gate = ramp();
        for cpu in cpus() {
            for (activation, expected) in cases {
                let mut up = vec![1.5; LEN];
                activate(&cpu, activation, Some(&gate), &mut up);
                let what = format!("{activation:?} on {:?}", cpu.width);
                close(&up, |i| expected(f64::from(gate[i])), 1e-6, &what);
            }
            let mut alone = gate.clone();
            activate(&cpu, Activation::GeluTanh, None, &mut alone);
            close(&alone, |i| tanh(f64::from(gate[i])), 1e-6, "without a gate");
        }
    }

    #[test]
    fn soft_caps_and_biases_reach_every_element() {
        for cpu in cpus() {
            let mut x = ramp();
            softcap(&cpu, &mut x, 3.0);
            close(&x, |i| 3.0 * (f64::from(ramp()[i]) / 3.0).tanh(), 1e-6, "softcap");
            let (mut x, bias) = (vec![1.0; 7 * 501], (0..501).map(|i| i as f32).collect::<Vec<_>>());
            add_rows(&cpu, &mut x, &bias);
            close(&x, |i| 1.0 + (i % 501) as f64, 1e-9, "bias");
        }
    }
}
