//! How much memory a model may have: its weights must fit beside what is loaded, and its KV gets a share of the rest.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::config::{ByteSize, PoolConfig};
use crate::loader::Needs;

/// Left to the rest of the machine.
const RESERVE: u64 = 512 << 20;
/// A model that cannot hold even this many tokens of KV is not worth loading.
const LEAST_TOKENS: u64 = 2048;

/// KV for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KvShare {
    /// Bytes that sequences and prefixes may hold together.
    pub(super) budget: u64,
    /// Bytes of these that prefixes may hold.
    pub(super) prefixes: u64,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) weights: u64,
    pub(super) kv: u64,
    pub(super) available: u64,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { weights, kv, available } = *self;
        write!(
            f,
            "it needs {} ({} of weights, {} of KV cache, {} for the system), but {} are available",
            ByteSize(weights.saturating_add(kv).saturating_add(RESERVE)),
            ByteSize(weights),
            ByteSize(kv),
            ByteSize(RESERVE),
            ByteSize(available)
        )
    }
}

/// Shares `available` bytes out to a model that `needs` so much and has a context of `context` tokens.
pub(super) fn share(
    needs: Needs,
    context: usize,
    available: u64,
    config: &PoolConfig,
) -> Result<KvShare, Shortage> {
    let context = context as u64;
    let one_context = needs.kv_bytes_per_token.saturating_mul(context);
    let least = needs.kv_bytes_per_token.saturating_mul(context.min(LEAST_TOKENS));
    let needed = config.kv_budget.unwrap_or(least);
    let shortage = Shortage { weights: needs.weight_bytes, kv: needed, available };
    let free = available
        .checked_sub(RESERVE)
        .and_then(|rest| rest.checked_sub(needs.weight_bytes))
        .filter(|free| *free >= needed)
        .ok_or(shortage)?;
    // Half of what is free, the rest being for buffers and for the next model; but no more than all sequences could fill,
    // twice: half of the budget may hold prefixes.
    let all = one_context.saturating_mul(2 * config.max_sequences as u64);
    let automatic = (free / 2).min(all).max(least);
    let budget = config.kv_budget.unwrap_or(automatic);
    Ok(KvShare { budget, prefixes: config.prefix_cache.unwrap_or(budget / 2).min(budget) })
}

/// Bytes that programs could still get, within the limits of this process's control group if it has one.
pub(super) fn available() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    let available = system.available_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory < system.total_memory() => available.min(limits.free_memory),
        _ => available,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn needs(weight_bytes: u64) -> Needs {
        Needs { weight_bytes, kv_bytes_per_token: 100_000 }
    }

    #[test]
    fn a_model_that_does_not_fit_is_told_with_numbers() {
        let shortage = share(needs(8 * GIB), 4096, 8 * GIB, &PoolConfig::default()).unwrap_err();
        let text = shortage.to_string();
        assert!(text.contains("8.0 GiB of weights") && text.contains("8.0 GiB are available"), "{text}");
        assert!(share(needs(u64::MAX), usize::MAX, 8 * GIB, &PoolConfig::default()).is_err());
    }

    #[test]
    fn kv_gets_half_of_what_is_free_but_no_more_than_it_could_use() {
        let share =
            |available, context| share(needs(GIB), context, available, &PoolConfig::default()).unwrap();
        assert_eq!(share(4 * GIB, 1_000_000).budget, (3 * GIB - RESERVE) / 2);
        assert_eq!(share(64 * GIB, 1_000).budget, 2 * 32 * 1_000 * 100_000);
    }

    #[test]
    fn a_configured_budget_is_kept_or_refused_and_never_cut() {
        let config =
            PoolConfig { kv_budget: Some(2 * GIB), prefix_cache: Some(5 * GIB), ..PoolConfig::default() };
        let share = |available| share(needs(GIB), 4096, available, &config);
        assert_eq!(share(8 * GIB), Ok(KvShare { budget: 2 * GIB, prefixes: 2 * GIB }));
        assert!(share(3 * GIB).is_err());
    }

    #[test]
    fn this_machine_has_some_memory() {
        assert!(available() > 1 << 20);
    }
}
