//! Rotary scaling as `config.json` says it.
//!
//! Two spellings: `rope_theta` and `partial_rotary_factor` beside a `rope_scaling` object (transformers 4), or all of it
//! in `rope_parameters` (transformers 5), which may hold an object of its own for each kind of layer.

use serde_json::{Map, Value};

use super::super::context::{Context, MAX_CONTEXT, name};
use super::{Plan, Scaling, Wanted, yarn_mscale};
use crate::ModelError;

const FULL: &str = "full_attention";
const LOCAL: &str = "sliding_attention";

/// The object with the parameters of one kind of layer. An empty one says: no scaling.
struct Params<'a, 'c> {
    cx: &'c Context<'a>,
    object: Option<&'a Map<String, Value>>,
}

impl<'a, 'c> Params<'a, 'c> {
    fn find(cx: &'c Context<'a>, wanted: &Wanted) -> Result<Self, ModelError> {
        let object = match cx.object("rope_parameters")? {
            Some(object) => Some(object),
            None => cx.object("rope_scaling")?,
        };
        let nested = |kind| object.and_then(|object| object.get(kind)).and_then(Value::as_object);
        let object = match (wanted.local, nested(FULL), nested(LOCAL)) {
            (true, None, None) => None,
            (true, _, local) => local,
            (false, None, Some(_)) => None,
            (false, Some(full), _) => Some(full),
            (false, None, None) => object,
        };
        Ok(Self { cx, object })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object?.get(key).filter(|value| !value.is_null())
    }

    /// A finite number above zero.
    fn positive(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.get(key).map(Value::as_f64) {
            None => Ok(None),
            Some(Some(value)) if value > 0.0 && (value as f32).is_normal() => Ok(Some(value)),
            Some(_) => Err(self.cx.invalid(format!("rotary parameter {key:?} should be a number above 0"))),
        }
    }

    fn require(&self, key: &str) -> Result<f64, ModelError> {
        self.positive(key)?.ok_or_else(|| self.cx.invalid(format!("rotary parameter {key:?} is missing")))
    }

    fn list(&self, key: &str, len: usize) -> Result<Vec<f32>, ModelError> {
        let items = self.get(key).and_then(Value::as_array).filter(|items| items.len() == len);
        items.and_then(|items| items.iter().map(|item| item.as_f64().map(|v| v as f32)).collect()).ok_or_else(
            || self.cx.invalid(format!("rotary parameter {key:?} should be a list of {len} numbers")),
        )
    }

    /// `rope_type`, or `type` as it was called before.
    fn kind(&self) -> &'a str {
        let kind = self.get("rope_type").or_else(|| self.get("type")).and_then(Value::as_str);
        match kind {
            // The first Phi-3 configs call long-rope "su" or "yarn".
            Some("su") => "longrope",
            Some("yarn") if self.get("long_factor").is_some() => "longrope",
            Some(kind) => kind,
            None => "default",
        }
    }
}

/// Reads the parameters for `wanted`.
pub(super) fn plan(cx: &Context<'_>, wanted: &Wanted) -> Result<Plan, ModelError> {
    let params = Params::find(cx, wanted)?;
    let theta = match params.positive("rope_theta")? {
        Some(theta) => theta,
        None => cx
            .positive(name(if wanted.local { "rope_local_base_freq" } else { "rope_theta" }, ""))?
            .unwrap_or(wanted.theta),
    };
    let partial = match params.positive("partial_rotary_factor")? {
        Some(partial) => partial,
        None => cx.positive(name("partial_rotary_factor", ""))?.unwrap_or(1.0),
    };
    let plain = Plan {
        dim: (wanted.head_dim as f64 * partial.min(1.0)) as usize,
        base: theta,
        scaling: Scaling::None,
        divisors: None,
        factor: 1.0,
        positions: wanted.positions,
    };
    match params.kind() {
        "default" => Ok(plain),
        "linear" => Ok(Plan { scaling: Scaling::Linear { factor: params.require("factor")? }, ..plain }),
        "dynamic" => dynamic(&params, plain),
        "llama3" => llama3(&params, plain),
        "yarn" => yarn(&params, plain, wanted.yarn_truncates),
        "longrope" => long_rope(&params, plain),
        other => {
            let other: String = other.chars().take(40).collect();
            Err(cx.unsupported(format!("rotary scaling {other:?}")))
        }
    }
}

/// Positions of the training before scaling. Phi-3 writes them beside the rotary parameters, not among them.
fn trained(params: &Params<'_, '_>, plain: &Plan) -> Result<usize, ModelError> {
    const KEY: &str = "original_max_position_embeddings";
    if let Some(outer) = params.cx.size(name(KEY, ""), MAX_CONTEXT)? {
        return Ok(outer);
    }
    match params.get(KEY).map(Value::as_u64) {
        None => Ok(plain.positions),
        Some(Some(n)) if (1..=MAX_CONTEXT as u64).contains(&n) => Ok(n as usize),
        Some(_) => {
            Err(params.cx.invalid(format!("rotary parameter {KEY:?} should be from 1 to {MAX_CONTEXT}")))
        }
    }
}

/// `positions` times `factor`, within bounds.
fn stretched(positions: usize, factor: f64) -> usize {
    ((positions as f64 * factor) as usize).clamp(1, MAX_CONTEXT)
}

fn dynamic(params: &Params<'_, '_>, plain: Plan) -> Result<Plan, ModelError> {
    let factor = params.require("factor")?;
    let trained = plain.positions;
    let positions = stretched(trained, factor).max(trained);
    // Without a wish for more, the context stays the trained one, for which dynamic scaling changes nothing.
    let context = match params.cx.options().context {
        Some(_) => params.cx.context_in_use(positions)?,
        None => trained,
    };
    let scaling = Scaling::Dynamic { factor, trained, context };
    Ok(Plan { scaling, positions: context, ..plain })
}

fn llama3(params: &Params<'_, '_>, plain: Plan) -> Result<Plan, ModelError> {
    let (low, high) = (params.require("low_freq_factor")?, params.require("high_freq_factor")?);
    if high <= low {
        return Err(params.cx.invalid("\"high_freq_factor\" should be above \"low_freq_factor\""));
    }
    let trained = trained(params, &plain)? as f64;
    let factor = params.require("factor")?;
    Ok(Plan { scaling: Scaling::Llama3 { factor, low, high, trained }, ..plain })
}

fn yarn(params: &Params<'_, '_>, plain: Plan, truncates: bool) -> Result<Plan, ModelError> {
    let trained = trained(params, &plain)?;
    let factor = match params.positive("factor")? {
        Some(factor) => factor,
        None => plain.positions as f64 / trained as f64,
    };
    let attention = match (
        params.positive("attention_factor")?,
        params.get("mscale").and_then(Value::as_f64).filter(|m| *m != 0.0),
        params.get("mscale_all_dim").and_then(Value::as_f64).filter(|m| *m != 0.0),
    ) {
        (Some(attention), ..) => attention,
        (None, Some(mscale), Some(all)) => yarn_mscale(factor, mscale) / yarn_mscale(factor, all),
        _ => yarn_mscale(factor, 1.0),
    };
    if !(attention as f32).is_normal() {
        return Err(params.cx.invalid("\"mscale\" and \"mscale_all_dim\" make no attention factor"));
    }
    let scaling = Scaling::Yarn {
        factor,
        beta_fast: params.positive("beta_fast")?.unwrap_or(32.0),
        beta_slow: params.positive("beta_slow")?.unwrap_or(1.0),
        trained: trained as f64,
        truncates: params.get("truncate").and_then(Value::as_bool).unwrap_or(truncates),
    };
    // Configs that were given YaRN by hand keep the trained length in max_position_embeddings.
    let positions = plain.positions.max(stretched(trained, factor));
    Ok(Plan { scaling, factor: attention, positions, ..plain })
}

fn long_rope(params: &Params<'_, '_>, plain: Plan) -> Result<Plan, ModelError> {
    let trained = trained(params, &plain)?;
    let context = params.cx.context_in_use(plain.positions)?;
    let key = if context > trained { "long_factor" } else { "short_factor" };
    let factor = match params.positive("factor")? {
        Some(factor) => factor,
        None => plain.positions as f64 / trained as f64,
    };
    let attention = match params.positive("attention_factor")? {
        Some(attention) => attention,
        None if factor <= 1.0 || trained < 2 => 1.0,
        None => (1.0 + factor.ln() / (trained as f64).ln()).sqrt(),
    };
    let divisors = params.list(key, plain.dim / 2)?;
    Ok(Plan { divisors: Some(divisors), factor: attention, ..plain })
}
