//! Rotary tables: every scaling rule, folded into inverse frequencies and one factor.
//!
//! `hf.rs` and `gguf.rs` read the rules out of a config, this file computes. The formulas are those of the reference
//! implementation in Hugging Face transformers (`modeling_rope_utils.py`), in f64, rounded once; `tests/arch_ropes.rs`
//! holds them against its tables.

mod gguf;
mod hf;

use std::f64::consts::PI;

use super::context::{Context, Format};
use crate::{ModelError, Rope, RopeLayout};

/// What a family wants a table for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Width of a head.
    pub(super) head_dim: usize,
    /// Positions the config says the model is for.
    pub(super) positions: usize,
    /// Which elements pair up.
    pub(super) layout: RopeLayout,
    /// Base, where the config has none.
    pub(super) theta: f64,
    /// The table is for layers with a sliding window, which Gemma 3 rotates with a base of their own, unscaled.
    pub(super) local: bool,
    /// Whether YaRN's ramp begins and ends at whole dimensions, where the config does not say (gpt-oss: not).
    pub(super) yarn_truncates: bool,
}

impl Wanted {
    /// The table of a family that has nothing special about it.
    pub(super) fn new(head_dim: usize, positions: usize, layout: RopeLayout) -> Self {
        Self { head_dim, positions, layout, theta: 10_000.0, local: false, yarn_truncates: true }
    }
}

/// A table, and the positions it is good for.
#[derive(Debug, Clone)]
pub(super) struct Rotary {
    pub(super) rope: Rope,
    pub(super) positions: usize,
}

/// Reads the rules that the config has for `wanted` and computes the table.
pub(super) fn rotary(cx: &Context<'_>, wanted: Wanted) -> Result<Rotary, ModelError> {
    let plan = match cx.format() {
        Format::Hf => hf::plan(cx, &wanted)?,
        Format::Gguf => gguf::plan(cx, &wanted)?,
    };
    plan.check(cx, &wanted)?;
    Ok(Rotary { rope: plan.table(wanted.layout), positions: plan.positions })
}

/// A rotary table's definition.
#[derive(Debug, Clone)]
struct Plan {
    /// Elements of a head that rotate.
    dim: usize,
    base: f64,
    scaling: Scaling,
    /// Every inverse frequency is divided by its own of these: long-rope, and Llama 3's rule as GGUF stores it.
    divisors: Option<Vec<f32>>,
    /// See [`Rope::factor`].
    factor: f64,
    /// Positions that the scaled table is good for.
    positions: usize,
}

/// How the frequencies of a longer context come from those of the context that the model was trained on.
#[derive(Debug, Clone)]
enum Scaling {
    None,
    /// Positions are divided by `factor`.
    Linear {
        factor: f64,
    },
    /// Dynamic NTK: the base grows with the context in use. Frequencies that change while a sequence grows would not
    /// fit the keys already in the cache, so the table is made once, for the whole context.
    Dynamic {
        factor: f64,
        trained: usize,
        context: usize,
    },
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        trained: f64,
    },
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        trained: f64,
        truncates: bool,
    },
}

impl Plan {
    fn check(&self, cx: &Context<'_>, wanted: &Wanted) -> Result<(), ModelError> {
        if self.dim == 0 || !self.dim.is_multiple_of(2) || self.dim > wanted.head_dim {
            return Err(cx.invalid(format!(
                "{} of {} elements of a head should rotate: not an even number within it",
                self.dim, wanted.head_dim
            )));
        }
        if self.base <= 1.0 {
            return Err(cx.invalid(format!("the rotary base is {}, but should be above 1", self.base)));
        }
        if let Some(divisors) = &self.divisors {
            if divisors.len() != self.dim / 2 {
                return Err(cx.invalid(format!(
                    "there are {} rotary factors for {} frequencies",
                    divisors.len(),
                    self.dim / 2
                )));
            }
            if divisors.iter().any(|d| !d.is_normal() || *d < 0.0) {
                return Err(cx.invalid("a rotary factor is not a number above 0"));
            }
        }
        if matches!(self.scaling, Scaling::Dynamic { .. }) && self.dim < 4 {
            return Err(cx.invalid("dynamic rotary scaling needs 4 rotating elements or more"));
        }
        Ok(())
    }

    fn table(&self, layout: RopeLayout) -> Rope {
        let dim = self.dim as f64;
        let base = match self.scaling {
            Scaling::Dynamic { factor, trained, context } => {
                let grown = factor * context.max(trained) as f64 / trained as f64 - (factor - 1.0);
                self.base * grown.powf(dim / (dim - 2.0))
            }
            _ => self.base,
        };
        let inv_freq = (0..self.dim / 2).map(|i| {
            let plain = base.powf(-2.0 * i as f64 / dim);
            let divisor = self.divisors.as_ref().map_or(1.0, |divisors| f64::from(divisors[i]));
            (self.scaled(plain, i) / divisor) as f32
        });
        Rope { inv_freq: inv_freq.collect(), factor: self.factor as f32, layout }
    }

    /// Frequency number `i`, unscaled `plain`, as the rule makes it.
    fn scaled(&self, plain: f64, i: usize) -> f64 {
        match self.scaling {
            Scaling::None | Scaling::Dynamic { .. } => plain,
            Scaling::Linear { factor } => plain / factor,
            Scaling::Llama3 { factor, low, high, trained } => {
                let turns = trained * plain / (2.0 * PI);
                let smooth = (turns - low) / (high - low);
                match turns {
                    _ if turns > high => plain,
                    _ if turns < low => plain / factor,
                    _ => (1.0 - smooth) * plain / factor + smooth * plain,
                }
            }
            Scaling::Yarn { factor, beta_fast, beta_slow, trained, truncates } => {
                let dim = self.dim as f64;
                // The (fractional) frequency that makes `turns` full turns over the trained context.
                let at = |turns: f64| dim * (trained / (turns * 2.0 * PI)).ln() / (2.0 * self.base.ln());
                let (low, high) = match truncates {
                    true => (at(beta_fast).floor(), at(beta_slow).ceil()),
                    false => (at(beta_fast), at(beta_slow)),
                };
                let (low, high) = (low.max(0.0), high.min(dim - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                plain / factor * ramp + plain * (1.0 - ramp)
            }
        }
    }
}

/// YaRN's correction of the attention's temperature.
fn yarn_mscale(factor: f64, mscale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 }
}
