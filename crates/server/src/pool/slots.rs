//! `Slots`: which models are in memory or on their way there, who holds them, and whom to let go. Pure bookkeeping.
//!
//! Invariants: a model has one slot; whoever waits for it or uses it holds a pin on the slot; a pinned slot is never
//! evicted. Slots that load, are ready or are being left all count against the limit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::catalogue::Entry;
use super::model::LoadedModel;
use crate::error::ApiError;

/// Names that are kept for quick finding.
const MAX_NAMES: usize = 256;

/// How a load ended; `None` while it runs.
pub(super) type Outcome = watch::Receiver<Option<Result<(), ApiError>>>;

/// Where a model is in its life.
#[derive(Debug)]
pub(super) enum Stage {
    Loading(Outcome),
    Ready(Arc<LoadedModel>),
    /// Its engine is being shut down.
    Leaving,
    /// The last load failed. Kept to be shown; the next request tries again.
    Failed(ApiError),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Arc<Entry>,
    pub(super) stage: Stage,
    pub(super) pins: usize,
    pub(super) last_used: Instant,
}

/// What came of asking for a model.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is ready, and pinned.
    Ready(Arc<LoadedModel>),
    /// It is loading, and pinned.
    Loading(Outcome),
    /// There is room; the caller starts to load it. Pinned. The sender is to tell how it ended.
    Start(Outcome, watch::Sender<Option<Result<(), ApiError>>>),
    /// There will be room when this model has left; the caller shuts it down.
    Evict(Arc<LoadedModel>),
    /// It is leaving, or all places are in use; ask again when something has changed.
    Wait,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    by_id: BTreeMap<String, Slot>,
    /// Names by which present models were asked for, so that a loaded model is found without a look at the disk.
    names: HashMap<String, Arc<Entry>>,
}

impl Slots {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.by_id.values()
    }

    /// The model that was asked for by `name` before and is still here.
    pub(super) fn known(&self, name: &str) -> Option<Arc<Entry>> {
        self.names.get(name).cloned()
    }

    /// Asks for a model, for a request that called it `name`.
    pub(super) fn take(&mut self, name: &str, entry: &Arc<Entry>, max_models: usize) -> Taken {
        let now = Instant::now();
        if let Some(slot) = self.by_id.get_mut(&entry.id) {
            match &slot.stage {
                Stage::Ready(model) if slot.pins == 0 && model.is_given_up() => {
                    let model = model.clone();
                    slot.stage = Stage::Leaving;
                    return Taken::Evict(model);
                }
                Stage::Ready(model) => {
                    let model = model.clone();
                    slot.pins += 1;
                    slot.last_used = now;
                    self.remember(name, entry);
                    return Taken::Ready(model);
                }
                Stage::Loading(outcome) => {
                    slot.pins += 1;
                    return Taken::Loading(outcome.clone());
                }
                Stage::Leaving => return Taken::Wait,
                Stage::Failed(_) => {}
            }
        }
        if self.places(false) >= max_models {
            return self.evict_idle().map_or(Taken::Wait, Taken::Evict);
        }
        if self.places(true) >= max_models {
            return Taken::Wait;
        }
        let (sender, outcome) = watch::channel(None);
        let stage = Stage::Loading(outcome.clone());
        // Those who waited for a load that failed may not have given their pins back yet.
        let pins = self.by_id.get(&entry.id).map_or(0, |failed| failed.pins) + 1;
        self.by_id.insert(entry.id.clone(), Slot { entry: entry.clone(), stage, pins, last_used: now });
        Taken::Start(outcome, sender)
    }

    /// The model that a pin is held on, once it is loaded.
    pub(super) fn ready(&mut self, name: &str, entry: &Arc<Entry>) -> Option<Arc<LoadedModel>> {
        let Stage::Ready(model) = &self.by_id.get(&entry.id)?.stage else { return None };
        let model = model.clone();
        self.remember(name, entry);
        Some(model)
    }

    /// Names come from requests, and a model answers to many spellings: only so many are kept.
    fn remember(&mut self, name: &str, entry: &Arc<Entry>) {
        if self.names.len() < MAX_NAMES && !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), entry.clone());
        }
    }

    /// Gives a pin back.
    pub(super) fn unpin(&mut self, id: &str) {
        if let Some(slot) = self.by_id.get_mut(id) {
            slot.pins = slot.pins.saturating_sub(1);
            slot.last_used = Instant::now();
        }
    }

    /// A load has ended.
    pub(super) fn loaded(&mut self, id: &str, result: Result<Arc<LoadedModel>, ApiError>) {
        if let Some(slot) = self.by_id.get_mut(id) {
            slot.last_used = Instant::now();
            slot.stage = match result {
                Ok(model) => Stage::Ready(model),
                Err(error) => Stage::Failed(error),
            };
        }
    }

    /// A model's engine has been shut down.
    pub(super) fn left(&mut self, id: &str) {
        if self.by_id.get(id).is_some_and(|slot| matches!(slot.stage, Stage::Leaving)) {
            self.by_id.remove(id);
        }
        self.names.retain(|_, entry| entry.id != id);
    }

    /// Marks the least recently used model that nobody holds as leaving, and returns it to be shut down.
    pub(super) fn evict_idle(&mut self) -> Option<Arc<LoadedModel>> {
        self.evict_where(|_| true)
    }

    /// Marks a model that was not used for `ttl` as leaving, and returns it to be shut down.
    pub(super) fn evict_expired(&mut self, ttl: Duration) -> Option<Arc<LoadedModel>> {
        let now = Instant::now();
        self.evict_where(|slot| slot.last_used + ttl <= now)
    }

    /// Marks every ready model as leaving, in use or not.
    pub(super) fn evict_all(&mut self) -> Vec<Arc<LoadedModel>> {
        let ready = self.by_id.values_mut().filter_map(|slot| match &slot.stage {
            Stage::Ready(model) => {
                let model = model.clone();
                slot.stage = Stage::Leaving;
                Some(model)
            }
            _ => None,
        });
        ready.collect()
    }

    /// When the next model that nobody holds will have been idle for `ttl`.
    pub(super) fn next_expiry(&self, ttl: Duration) -> Option<Instant> {
        let idle = self.by_id.values().filter(|slot| slot.pins == 0 && matches!(slot.stage, Stage::Ready(_)));
        idle.map(|slot| slot.last_used + ttl).min()
    }

    fn evict_where(&mut self, may: impl Fn(&Slot) -> bool) -> Option<Arc<LoadedModel>> {
        let idle = self.by_id.values_mut().filter(|slot| slot.pins == 0 && may(slot));
        let (slot, model) = idle
            .filter_map(|slot| match &slot.stage {
                Stage::Ready(model) => Some(model.clone()).map(|model| (slot, model)),
                _ => None,
            })
            .min_by_key(|(slot, _)| slot.last_used)?;
        slot.stage = Stage::Leaving;
        Some(model)
    }

    /// Places in use, those of models that are leaving counted or not.
    fn places(&self, leaving: bool) -> usize {
        let counts = |slot: &&Slot| match slot.stage {
            Stage::Failed(_) => false,
            Stage::Leaving => leaving,
            Stage::Loading(_) | Stage::Ready(_) => true,
        };
        self.by_id.values().filter(counts).count()
    }
}
