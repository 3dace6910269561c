//! Rotary scaling as GGUF metadata says it, with the defaults that llama.cpp takes for what is missing.
//!
//! Llama 3's rule comes as a tensor of divisors, `rope_freqs.weight`; long-rope's as two, of which the context in use
//! picks one. They go with any of the scalings that the metadata name.

use super::super::context::{Context, MAX_CONTEXT, MAX_WIDTH, name};
use super::{Plan, Scaling, Wanted, yarn_mscale};
use crate::ModelError;

/// Reads the parameters for `wanted`.
pub(super) fn plan(cx: &Context<'_>, wanted: &Wanted) -> Result<Plan, ModelError> {
    let key = |gguf| name("", gguf);
    let dim = cx.size(key("rope.dimension_count"), MAX_WIDTH)?.unwrap_or(wanted.head_dim);
    if wanted.local {
        let base = cx.positive(key("rope.freq_base_swa"))?.unwrap_or(wanted.theta);
        let positions = wanted.positions;
        return Ok(Plan { dim, base, scaling: Scaling::None, divisors: None, factor: 1.0, positions });
    }
    let factor = match cx.number(key("rope.scaling.factor"))? {
        Some(factor) => factor,
        None => cx.number(key("rope.scale_linear"))?.unwrap_or(0.0),
    };
    let factor = match factor {
        0.0 => 1.0,
        factor if factor > 0.0 && (factor as f32).is_normal() => factor,
        _ => return Err(cx.invalid("the rotary scaling factor should be above 0")),
    };
    let trained = cx.count(key("rope.scaling.original_context_length"), MAX_CONTEXT)?.filter(|n| *n > 0);
    let trained = trained.unwrap_or(wanted.positions);
    let mut plan = Plan {
        dim,
        base: cx.positive(key("rope.freq_base"))?.unwrap_or(wanted.theta),
        scaling: Scaling::None,
        divisors: divisors(cx, trained, wanted.positions)?,
        factor: cx.positive(key("rope.scaling.attn_factor"))?.unwrap_or(1.0),
        positions: wanted.positions,
    };
    match cx.text(key("rope.scaling.type"))?.unwrap_or("linear") {
        "none" | "longrope" => {}
        "linear" => plan.scaling = Scaling::Linear { factor },
        "yarn" => {
            plan.factor *= match cx.number(key("rope.scaling.yarn_log_multiplier"))? {
                Some(all) if all != 0.0 => yarn_mscale(factor, 1.0) / yarn_mscale(factor, all),
                _ => yarn_mscale(factor, 1.0),
            };
            if !(plan.factor as f32).is_normal() {
                return Err(cx.invalid("\"rope.scaling.yarn_log_multiplier\" makes no attention factor"));
            }
            plan.scaling = Scaling::Yarn {
                factor,
                beta_fast: cx.positive(key("rope.scaling.yarn_beta_fast"))?.unwrap_or(32.0),
                beta_slow: cx.positive(key("rope.scaling.yarn_beta_slow"))?.unwrap_or(1.0),
                trained: trained as f64,
                truncates: wanted.yarn_truncates,
            };
            let stretched = ((trained as f64 * factor) as usize).min(MAX_CONTEXT);
            plan.positions = plan.positions.max(stretched);
        }
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(cx.unsupported(format!("rotary scaling {other:?}")));
        }
    }
    Ok(plan)
}

fn divisors(cx: &Context<'_>, trained: usize, positions: usize) -> Result<Option<Vec<f32>>, ModelError> {
    const FREQS: &str = "rope_freqs.weight";
    if cx.has(FREQS) {
        return cx.tensors().values(FREQS).map(Some);
    }
    let (long, short) = ("rope_factors_long.weight", "rope_factors_short.weight");
    if !cx.has(long) && !cx.has(short) {
        return Ok(None);
    }
    let context = cx.context_in_use(positions)?;
    cx.tensors().values(if context > trained { long } else { short }).map(Some)
}
