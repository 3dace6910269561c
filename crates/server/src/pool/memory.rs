//! How much memory a model may have: its weights and what it computes in must fit beside what is loaded, and its KV gets
//! a share of the rest.
//!
//! Two limits hold: what the machine (or the control group of this process) has available, less what is kept for the
//! system and what loaded models may still take; and `memory_limit` or what the device should hold, less all that loaded models were
//! given.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::config::ByteSize;
use crate::loader::Needs;

/// Left to the rest of the machine.
pub(crate) const RESERVE: u64 = 512 << 20;
/// A model that cannot hold even this many tokens of KV is not worth loading.
const LEAST_TOKENS: u64 = 2048;

/// What a model is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Bytes of weights.
    pub(super) weights: u64,
    /// Of these, used in place in mapped files.
    pub(super) mapped: u64,
    /// Bytes to compute in.
    pub(super) scratch: u64,
    /// Bytes that sequences and prefixes may hold together.
    pub(super) kv: u64,
    /// Bytes of these that prefixes may hold.
    pub(super) prefixes: u64,
}

impl Share {
    /// All that it may take.
    pub(super) fn total(&self) -> u64 {
        self.weights.saturating_add(self.scratch).saturating_add(self.kv)
    }

    /// What it may still take of the memory that the system calls available, when it holds `kv_used` bytes of KV. Mapped
    /// weights are in use, but Linux counts their pages as available: it could read them again, for every token.
    pub(super) fn outstanding(&self, kv_used: u64) -> u64 {
        let mapped = if std::env::consts::OS == "linux" { self.mapped } else { 0 };
        mapped.saturating_add(self.scratch).saturating_add(self.kv.saturating_sub(kv_used))
    }
}

/// What models may take together, where that is not all of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// `memory_limit`, in bytes.
    Configured(u64),
    /// What the device that runs them should hold.
    Device(u64),
}

impl Limit {
    /// The smaller of two limits.
    pub(super) fn least(configured: Option<u64>, device: Option<u64>) -> Option<Self> {
        let limits = configured.map(Self::Configured).into_iter().chain(device.map(Self::Device));
        limits.min_by_key(|limit| limit.bytes())
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Configured(bytes) | Self::Device(bytes) => bytes,
        }
    }
}

/// Memory for one more model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes it may have.
    pub(super) free: u64,
    /// The limit, where that and not the machine is what ends it.
    pub(super) limit: Option<Limit>,
}

impl Room {
    /// The room on a machine with `available` bytes and beside models that were given `given` bytes, of which they have
    /// not taken `outstanding` yet.
    pub(super) fn new(available: u64, outstanding: u64, given: u64, limit: Option<Limit>) -> Self {
        let machine = available.saturating_sub(outstanding).saturating_sub(RESERVE);
        match limit.map(|limit| (limit, limit.bytes().saturating_sub(given))) {
            Some((limit, free)) if free < machine => Self { free, limit: Some(limit) },
            _ => Self { free: machine, limit: None },
        }
    }

    /// The same when models have left that take `bytes`.
    pub(super) fn without(self, bytes: u64) -> Self {
        Self { free: self.free.saturating_add(bytes), ..self }
    }
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) needs: Needs,
    pub(super) kv: u64,
    pub(super) room: Room,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { needs: Needs { weight_bytes, scratch_bytes, .. }, kv, room } = *self;
        write!(
            f,
            "it needs {} ({} of weights, {} of KV cache, {} to compute in), but {} are free",
            ByteSize(weight_bytes.saturating_add(kv).saturating_add(scratch_bytes)),
            ByteSize(weight_bytes),
            ByteSize(kv),
            ByteSize(scratch_bytes),
            ByteSize(room.free),
        )?;
        match room.limit {
            Some(Limit::Configured(limit)) => {
                write!(f, " within `memory_limit`, which is {}", ByteSize(limit))
            }
            Some(Limit::Device(limit)) => {
                write!(f, " of the {} that the graphics processor should hold", ByteSize(limit))
            }
            None => write!(f, ", beside {} for the system", ByteSize(RESERVE)),
        }
    }
}

/// What the KV of a model may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct KvLimits {
    /// Longest sequence in tokens.
    pub(super) context: usize,
    /// Sequences at once.
    pub(super) sequences: usize,
    /// Bytes, if they are configured.
    pub(super) budget: Option<u64>,
    /// Bytes of these for prefixes, if they are configured.
    pub(super) prefixes: Option<u64>,
}

/// Shares `room` out to a model that `needs` so much.
pub(super) fn share(needs: Needs, limits: KvLimits, room: Room) -> Result<Share, Shortage> {
    let context = limits.context as u64;
    let one_context = needs.kv_bytes_per_token.saturating_mul(context);
    let least = needs.kv_bytes_per_token.saturating_mul(context.min(LEAST_TOKENS));
    let needed = limits.budget.unwrap_or(least);
    let free = room
        .free
        .checked_sub(needs.weight_bytes)
        .and_then(|rest| rest.checked_sub(needs.scratch_bytes))
        .filter(|free| *free >= needed)
        .ok_or(Shortage { needs, kv: needed, room })?;
    // Half of what is free, the rest being for buffers and for the next model; but no more than all sequences could fill,
    // twice: half of the budget may hold prefixes.
    let all = one_context.saturating_mul(2 * limits.sequences as u64);
    let automatic = (free / 2).min(all).max(least);
    let kv = limits.budget.unwrap_or(automatic);
    Ok(Share {
        weights: needs.weight_bytes,
        mapped: needs.mapped_bytes,
        scratch: needs.scratch_bytes,
        kv,
        prefixes: limits.prefixes.unwrap_or(kv / 2).min(kv),
    })
}

/// Bytes that programs could still get, within the limits of this process's control group if it has one. What the
/// system only caches counts as available.
pub(crate) fn available() -> u64 {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    let available = system.available_memory();
    match system.cgroup_limits() {
        // A group's usage counts the cache as well, which a model file that was just read fills; its anonymous memory is
        // what stays.
        Some(limits) if limits.total_memory < system.total_memory() => {
            available.min(limits.total_memory.saturating_sub(limits.rss))
        }
        _ => available,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn needs(weight_bytes: u64) -> Needs {
        Needs {
            weight_bytes,
            mapped_bytes: 0,
            scratch_bytes: 0,
            kv_bytes_per_token: 100_000,
            device_limit: None,
            backend: "cpu",
        }
    }

    fn limits(context: usize) -> KvLimits {
        KvLimits { context, sequences: 32, budget: None, prefixes: None }
    }

    fn room(free: u64) -> Room {
        Room { free, limit: None }
    }

    #[test]
    fn a_model_that_does_not_fit_is_told_with_numbers() {
        let needs = Needs { scratch_bytes: GIB, ..needs(8 * GIB) };
        let text = share(needs, limits(4096), room(8 * GIB)).unwrap_err().to_string();
        for part in ["8.0 GiB of weights", "195.3 MiB of KV", "1.0 GiB to compute", "8.0 GiB are free"] {
            assert!(text.contains(part), "{text}");
        }
        let tight = Room { free: GIB, limit: Some(Limit::Configured(2 * GIB)) };
        let text = share(needs, limits(4096), tight).unwrap_err().to_string();
        assert!(text.contains("`memory_limit`, which is 2.0 GiB"), "{text}");
        let huge = Needs { weight_bytes: u64::MAX, scratch_bytes: u64::MAX, ..needs };
        assert!(share(huge, limits(usize::MAX), room(8 * GIB)).is_err());
    }

    #[test]
    fn kv_gets_half_of_what_is_free_but_no_more_than_it_could_use() {
        let kv = |free, context| share(needs(GIB), limits(context), room(free)).unwrap().kv;
        assert_eq!(kv(4 * GIB, 1_000_000), 3 * GIB / 2);
        assert_eq!(kv(64 * GIB, 1_000), 2 * 32 * 1_000 * 100_000);
    }

    #[test]
    fn a_configured_budget_is_kept_or_refused_and_never_cut() {
        let limits = KvLimits { budget: Some(2 * GIB), prefixes: Some(5 * GIB), ..limits(4096) };
        let given = share(needs(GIB), limits, room(8 * GIB)).unwrap();
        assert_eq!((given.kv, given.prefixes, given.total()), (2 * GIB, 2 * GIB, 3 * GIB));
        assert!(share(needs(GIB), limits, room(3 * GIB - 1)).is_err());
    }

    #[test]
    fn the_tighter_of_the_machine_and_the_limit_holds() {
        let machine = Room::new(10 * GIB, 2 * GIB, 3 * GIB, None);
        assert_eq!(machine, room(8 * GIB - RESERVE));
        assert_eq!(Room::new(10 * GIB, 2 * GIB, 3 * GIB, Some(Limit::Configured(20 * GIB))), machine);
        let tight = Room::new(10 * GIB, 2 * GIB, 3 * GIB, Some(Limit::Device(4 * GIB)));
        assert_eq!(tight, Room { free: GIB, limit: Some(Limit::Device(4 * GIB)) });
        assert_eq!(Room::new(0, 1, 5, Some(Limit::Configured(1))).free, 0);
    }

    #[test]
    fn kv_that_is_held_already_is_not_counted_twice() {
        let share = Share { weights: 5, mapped: 0, scratch: 1, kv: 10, prefixes: 5 };
        assert_eq!(share.outstanding(4), 7);
        assert_eq!(share.outstanding(40), 1);
    }

    #[test]
    fn this_machine_has_some_memory() {
        assert!(available() > 1 << 20);
    }
}
