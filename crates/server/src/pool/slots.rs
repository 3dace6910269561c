//! `Slots`: which models are in memory or on their way there, who holds them, and whom to let go. Pure bookkeeping.
//!
//! Invariants: a model has one slot; whoever waits for it or uses it has a hold on the slot; a slot that is held is never
//! evicted, and a pinned one only when it is outdated. Slots that load, are ready or are leaving all count against the
//! limit, but for the built-in model's. A hold counts for the visit that it was given for: one that outlives its model
//! says nothing of the model's next visit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::catalogue::Entry;
use super::model::LoadedModel;
use super::slot::{Announce, Outcome, Slot, Stage};
use crate::config::Lifetime;
use crate::error::ApiError;

/// Names that are kept for quick finding.
const MAX_NAMES: usize = 256;
/// Whoever has waited so long for a place gets the next: the model that has been in memory longest takes no more
/// requests until it has left. Without it, a model that is never idle would keep all others out.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What came of asking for a model.
#[derive(Debug)]
pub(super) enum Taken {
    /// It is ready, and held for this visit.
    Ready(Arc<LoadedModel>, u64),
    /// It is loading, and held.
    Loading(Outcome, u64),
    /// There is room; the caller starts to load it. Held. The sender is to tell how it ended.
    Start(Outcome, u64, Announce),
    /// There will be room when this model has left; the caller shuts it down.
    Evict(Arc<LoadedModel>),
    /// It is leaving, or there will be room for it in time; ask again when something has changed.
    Wait,
    /// All places are taken by pinned models.
    Pinned,
}

#[derive(Debug)]
pub(super) struct Slots {
    by_id: BTreeMap<String, Slot>,
    /// Names by which present models were asked for, so that a loaded model is found without a look at the disk.
    names: HashMap<String, Arc<Entry>>,
    max_models: usize,
    idle_ttl: Option<Duration>,
    /// What the user said about pins, over what the configuration says.
    pub(super) pins: BTreeMap<String, bool>,
    /// Who waits for room: which model they want, and since when.
    wanting: BTreeMap<u64, (String, Instant)>,
    /// Nothing is given out: the engines are being rebuilt.
    pub(super) paused: bool,
    counter: u64,
}

impl Slots {
    pub(super) fn new(max_models: usize, idle_ttl: Option<Duration>, pins: BTreeMap<String, bool>) -> Self {
        Self {
            by_id: BTreeMap::new(),
            names: HashMap::new(),
            max_models,
            idle_ttl,
            pins,
            wanting: BTreeMap::new(),
            paused: false,
            counter: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.by_id.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Slot> {
        self.by_id.get(id)
    }

    /// The model that was asked for by `name` before and is still here.
    pub(super) fn known(&self, name: &str) -> Option<Arc<Entry>> {
        self.names.get(name).cloned()
    }

    /// Forgets which names mean what.
    pub(super) fn forget_names(&mut self) {
        self.names.clear();
    }

    /// Whether a model stays in memory once it is there.
    pub(super) fn is_pinned(&self, entry: &Entry) -> bool {
        self.pins.get(&entry.id).copied().unwrap_or(entry.config.pin)
    }

    /// Asks for a model, for a request that called it `name`.
    pub(super) fn take(&mut self, name: &str, entry: &Arc<Entry>) -> Taken {
        if self.paused {
            return Taken::Wait;
        }
        let now = Instant::now();
        let must_yield = self.must_yield(&entry.id, now);
        if let Some(slot) = self.by_id.get_mut(&entry.id) {
            if slot.ready().is_some() && !slot.entry.same_engine(entry) {
                slot.outdated = true;
            }
            match &slot.stage {
                Stage::Ready(model) if slot.holds == 0 && (slot.outdated || model.is_given_up()) => {
                    return slot.leave().map_or(Taken::Wait, Taken::Evict);
                }
                Stage::Ready(_) if must_yield => return Taken::Wait,
                Stage::Ready(model) => {
                    let model = model.clone();
                    slot.holds += 1;
                    slot.last_used = now;
                    if !slot.outdated {
                        slot.entry = entry.clone();
                    }
                    let visit = slot.visit;
                    self.remember(name, entry);
                    return Taken::Ready(model, visit);
                }
                Stage::Loading(outcome) => {
                    slot.holds += 1;
                    return Taken::Loading(outcome.clone(), slot.visit);
                }
                Stage::Leaving(_) => return Taken::Wait,
                Stage::Failed(_) => {}
            }
        }
        if entry.built_in.is_none() && self.places(true) >= self.max_models {
            if self.places(false) < self.max_models {
                return Taken::Wait;
            }
            return match self.evict(Slot::counts) {
                Some(model) => Taken::Evict(model),
                None if self.all_pinned() => Taken::Pinned,
                None => Taken::Wait,
            };
        }
        self.start(entry, now)
    }

    fn start(&mut self, entry: &Arc<Entry>, now: Instant) -> Taken {
        let (sender, outcome) = watch::channel(None);
        let stage = Stage::Loading(outcome.clone());
        let visit = self.next();
        let slot = Slot {
            entry: entry.clone(),
            stage,
            visit,
            holds: 1,
            last_used: now,
            keep_alive: None,
            outdated: false,
        };
        self.by_id.insert(entry.id.clone(), slot);
        Taken::Start(outcome, visit, sender)
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The model of a visit, once it is loaded.
    pub(super) fn arrived(&mut self, visit: u64, name: &str, entry: &Arc<Entry>) -> Option<Arc<LoadedModel>> {
        let slot = self.by_id.get_mut(&entry.id).filter(|slot| slot.visit == visit)?;
        let model = slot.ready()?.clone();
        self.remember(name, entry);
        Some(model)
    }

    /// Names come from requests, and a model answers to many spellings: only so many are kept.
    fn remember(&mut self, name: &str, entry: &Arc<Entry>) {
        if self.names.len() < MAX_NAMES && !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), entry.clone());
        }
    }

    /// Gives a hold back.
    pub(super) fn release(&mut self, id: &str, visit: u64) {
        if let Some(slot) = self.by_id.get_mut(id).filter(|slot| slot.visit == visit) {
            slot.holds = slot.holds.saturating_sub(1);
            slot.last_used = Instant::now();
        }
    }

    /// A load has ended.
    pub(super) fn loaded(&mut self, id: &str, visit: u64, result: Result<Arc<LoadedModel>, ApiError>) {
        if let Some(slot) = self.by_id.get_mut(id).filter(|slot| slot.visit == visit) {
            slot.last_used = Instant::now();
            slot.stage = match result {
                Ok(model) => Stage::Ready(model),
                Err(error) => Stage::Failed(error),
            };
        }
    }

    /// A model's engine has been shut down.
    pub(super) fn left(&mut self, id: &str) {
        if self.by_id.get(id).is_some_and(|slot| matches!(slot.stage, Stage::Leaving(_))) {
            self.by_id.remove(id);
        }
        self.names.retain(|_, entry| entry.id != id);
    }

    /// Forgets that a load failed. Whether it had.
    pub(super) fn forget_failure(&mut self, id: &str) -> bool {
        let failed = self.by_id.get(id).is_some_and(Slot::has_failed);
        if failed {
            self.by_id.remove(id);
        }
        failed
    }

    /// Forgets all loads that failed.
    pub(super) fn forget_failures(&mut self) {
        self.by_id.retain(|_, slot| !slot.has_failed());
    }

    /// Sets how long a model stays unused, for this visit.
    pub(super) fn keep_alive(&mut self, id: &str, lifetime: Lifetime) {
        if let Some(slot) = self.by_id.get_mut(id) {
            slot.keep_alive = Some(lifetime);
        }
    }

    /// Marks a ready model as leaving, in use or not, and returns it to be shut down.
    pub(super) fn leave(&mut self, id: &str) -> Option<Arc<LoadedModel>> {
        self.by_id.get_mut(id)?.leave()
    }

    /// Marks every ready model as leaving, in use or not.
    pub(super) fn leave_all(&mut self) -> Vec<Arc<LoadedModel>> {
        self.by_id.values_mut().filter_map(Slot::leave).collect()
    }

    /// Marks the models in memory as outdated that `now` says are no longer what they were; returns their ids.
    pub(super) fn outdate(&mut self, now: impl Fn(&str) -> Option<Arc<Entry>>) -> Vec<String> {
        let mut outdated = Vec::new();
        for slot in self.by_id.values_mut().filter(|slot| matches!(slot.stage, Stage::Ready(_))) {
            match now(&slot.entry.id) {
                Some(entry) if entry.same_engine(&slot.entry) => slot.entry = entry,
                _ => {
                    slot.outdated = true;
                    outdated.push(slot.entry.id.clone());
                }
            }
        }
        outdated
    }

    /// Marks the model that can best be spared as leaving, and returns it to be shut down: an outdated one, else the
    /// least recently used that is neither held nor pinned.
    pub(super) fn evict_idle(&mut self) -> Option<Arc<LoadedModel>> {
        self.evict(|_| true)
    }

    fn evict(&mut self, may: impl Fn(&Slot) -> bool) -> Option<Arc<LoadedModel>> {
        let idle = self.iter().filter(|slot| self.can_leave(slot) && may(slot));
        let id = idle.min_by_key(|slot| (!slot.outdated, slot.last_used))?.entry.id.clone();
        self.leave(&id)
    }

    /// Whether it could be evicted now.
    pub(super) fn can_leave(&self, slot: &Slot) -> bool {
        slot.holds == 0 && slot.ready().is_some() && (slot.outdated || !self.is_pinned(&slot.entry))
    }

    /// Marks a model whose time is over as leaving, and returns it to be shut down.
    pub(super) fn evict_expired(&mut self) -> Option<Arc<LoadedModel>> {
        let now = Instant::now();
        let expired = self.iter().find(|slot| self.expiry(slot).is_some_and(|at| at <= now));
        let id = expired?.entry.id.clone();
        self.leave(&id)
    }

    /// When the next model's time is over if nobody asks for it.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.iter().filter_map(|slot| self.expiry(slot)).min()
    }

    /// When a model's time is over if nobody asks for it.
    pub(super) fn expiry(&self, slot: &Slot) -> Option<Instant> {
        if !self.can_leave(slot) {
            return None;
        }
        if slot.outdated {
            return Some(slot.last_used);
        }
        let said = slot.keep_alive.or(slot.entry.config.keep_alive);
        let time = said.map_or(self.idle_ttl, |Lifetime(time)| time)?;
        slot.last_used.checked_add(time)
    }

    /// Notes that somebody waits for room for the model `id`. Give the number back with [`Slots::satisfied`].
    pub(super) fn wanting(&mut self, id: &str) -> u64 {
        let number = self.next();
        self.wanting.insert(number, (id.to_owned(), Instant::now()));
        number
    }

    /// Somebody no longer waits for room.
    pub(super) fn satisfied(&mut self, number: u64) {
        self.wanting.remove(&number);
    }

    /// Whether the model has to take no more requests, because others have waited too long for room: those that nobody
    /// uses, which can go, and of the others the one that has been here longest.
    fn must_yield(&self, id: &str, now: Instant) -> bool {
        let waits =
            |(wanted, since): &(String, Instant)| wanted != id && now.duration_since(*since) > PATIENCE;
        if !self.wanting.values().any(waits) {
            return false;
        }
        let may_leave =
            |slot: &&Slot| slot.counts() && slot.ready().is_some() && !self.is_pinned(&slot.entry);
        let first = self.iter().filter(may_leave).filter(|slot| slot.holds > 0).min_by_key(|slot| slot.visit);
        let asked = self.by_id.get(id).filter(may_leave);
        asked.is_some_and(|slot| slot.holds == 0 || first.is_some_and(|first| first.visit == slot.visit))
    }

    /// Forgets a load that nobody waits for any more. Whether that was so.
    pub(super) fn abandon(&mut self, id: &str, visit: u64) -> bool {
        let abandoned = self.by_id.get(id).is_none_or(|slot| slot.visit != visit || slot.holds == 0);
        if abandoned && self.by_id.get(id).is_some_and(|slot| slot.visit == visit) {
            self.by_id.remove(id);
        }
        abandoned
    }

    /// Whether no place will be free unless somebody unpins a model.
    fn all_pinned(&self) -> bool {
        let mut places = self.iter().filter(|slot| slot.counts() && !slot.has_failed());
        places.all(|slot| slot.ready().is_some() && !slot.outdated && self.is_pinned(&slot.entry))
    }

    /// Places in use, those of models that are leaving counted or not.
    fn places(&self, leaving: bool) -> usize {
        let counts = |slot: &&Slot| match slot.stage {
            Stage::Failed(_) => false,
            Stage::Leaving(_) => leaving && slot.counts(),
            Stage::Loading(_) | Stage::Ready(_) => slot.counts(),
        };
        self.by_id.values().filter(counts).count()
    }
}
