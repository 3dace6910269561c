//! What this machine has room for.

use perch_hub::remote::Preference;
use perch_protocol::{Fit, MachineMemory, MemoryNeed};
use serde_json::Value;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Left to the rest of the machine.
const RESERVE: u64 = 512 << 20;
/// Buffers of an engine beside weights and KV.
const BUFFERS: u64 = 128 << 20;
/// Tokens of context that a need is said for, where the model has more.
const CONTEXT: u64 = 8_192;
/// Bytes of a number in the KV cache.
const KV_ELEMENT: u64 = 2;

/// The memory of this machine, within the limits of its control group if it has one.
pub(super) fn memory() -> MachineMemory {
    let ram = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(ram));
    let (total, available) = (system.total_memory(), system.available_memory());
    match system.cgroup_limits().filter(|limits| limits.total_memory < total) {
        Some(limits) => MachineMemory {
            total_bytes: limits.total_memory,
            available_bytes: available.min(limits.total_memory.saturating_sub(limits.rss)),
        },
        None => MachineMemory { total_bytes: total, available_bytes: available },
    }
}

/// Whether so many bytes fit.
pub(super) fn fit(needed: u64, machine: MachineMemory) -> Fit {
    match needed.saturating_add(RESERVE) {
        needed if needed <= machine.available_bytes => Fit::Fits,
        needed if needed <= machine.total_bytes => Fit::Tight,
        _ => Fit::TooLarge,
    }
}

/// What decides which quantisation is taken on this machine when nobody says: one that could fit if others made room.
pub fn preference() -> Preference {
    let budget = memory().total_bytes.saturating_sub(RESERVE + BUFFERS);
    // A tenth for the KV cache.
    Preference { budget: Some(budget / 10 * 9), runs: super::support::runs }
}

/// Memory for weights of so many bytes, and for the KV cache of a model of this shape.
pub(super) fn need(weight_bytes: u64, shape: Option<&Shape>, machine: MachineMemory) -> MemoryNeed {
    let context_tokens =
        shape.and_then(|shape| shape.context).map_or(CONTEXT, |context| context.min(CONTEXT));
    let kv_bytes = shape.map_or(0, |shape| shape.kv_bytes_per_token.saturating_mul(context_tokens));
    let total_bytes = weight_bytes.saturating_add(kv_bytes).saturating_add(BUFFERS);
    MemoryNeed { weight_bytes, kv_bytes, context_tokens, total_bytes, fit: fit(total_bytes, machine) }
}

/// What of a model's shape decides over its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of KV for each token, as if every layer kept every token.
    pub(super) kv_bytes_per_token: u64,
    /// Tokens that the model was made for.
    pub(super) context: Option<u64>,
}

impl Shape {
    /// The shape that a `config.json` tells.
    pub(super) fn of(config: &Value) -> Option<Self> {
        let text = config.get("text_config").unwrap_or(config);
        let number = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| text.get(key)?.as_u64());
            found.filter(|value| (1..1 << 32).contains(value))
        };
        let layers = number(&["num_hidden_layers", "n_layer"])?;
        let heads = number(&["num_attention_heads", "n_head"])?;
        let hidden = number(&["hidden_size", "n_embd"])?;
        let kv_heads = number(&["num_key_value_heads"]).unwrap_or(heads);
        let width = number(&["head_dim"]).unwrap_or(hidden / heads);
        let elements = layers.checked_mul(kv_heads)?.checked_mul(width)?.checked_mul(2)?;
        Some(Self {
            kv_bytes_per_token: elements.checked_mul(KV_ELEMENT)?,
            context: number(&["max_position_embeddings", "n_positions"]),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn the_kv_of_a_known_model_is_what_its_shape_says() {
        // Qwen3-0.6B: 28 layers, 8 KV heads of 128.
        let config = json!({"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "hidden_size": 1024, "max_position_embeddings": 40_960});
        let shape = Shape::of(&config).unwrap();
        assert_eq!((shape.kv_bytes_per_token, shape.context), (28 * 8 * 128 * 2 * 2, Some(40_960)));
        let machine = MachineMemory { total_bytes: 16 * GIB, available_bytes: 8 * GIB };
        let need = need(GIB, Some(&shape), machine);
        assert_eq!((need.context_tokens, need.kv_bytes), (8_192, 8_192 * shape.kv_bytes_per_token));
        assert_eq!(need.fit, Fit::Fits);
        assert_eq!(Shape::of(&json!({"num_hidden_layers": u64::MAX})), None);
    }

    #[test]
    fn what_fits_now_what_could_fit_and_what_never_will_are_told_apart() {
        let machine = MachineMemory { total_bytes: 16 * GIB, available_bytes: 8 * GIB };
        assert_eq!(
            [7 * GIB, 12 * GIB, 16 * GIB].map(|bytes| fit(bytes, machine)),
            [Fit::Fits, Fit::Tight, Fit::TooLarge]
        );
        assert_eq!(fit(u64::MAX, machine), Fit::TooLarge);
    }
}
