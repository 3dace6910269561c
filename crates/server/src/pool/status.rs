//! How the models in memory are shown.

use std::time::{Duration, SystemTime};

use perch_engine::EngineState;
use perch_protocol::{ErrorCode, ModelState, ModelStatus};
use tokio::time::Instant;

use super::slot::{Slot, Stage};
use super::slots::Slots;
use super::{LoadedModel, ModelPool};
use crate::clock::millis;
use crate::error::ApiError;

/// No step takes longer; the slowest chunk of a prompt on a slow machine takes a fraction of this.
const HUNG: Duration = Duration::from_secs(180);

impl ModelPool {
    /// Models in memory, on their way there, or failed.
    pub fn status(&self) -> Vec<ModelStatus> {
        let default = self.default_shown();
        let now = Instant::now();
        let slots = self.inner.slots.lock();
        slots.iter().filter_map(|slot| slot_status(&slots, slot, default.as_deref(), now)).collect()
    }

    /// The same of the model `id`.
    pub(crate) fn status_of(&self, id: &str) -> Option<ModelStatus> {
        let default = self.default_shown();
        let slots = self.inner.slots.lock();
        slot_status(&slots, slots.get(id)?, default.as_deref(), Instant::now())
    }
}

fn slot_status(slots: &Slots, slot: &Slot, default: Option<&str>, now: Instant) -> Option<ModelStatus> {
    let entry = &slot.entry;
    let blank = ModelStatus {
        id: entry.id.clone(),
        description: entry.built_in.map(|model| model.description.to_owned()),
        state: ModelState::Loading,
        backend: None,
        error: None,
        default: default == Some(&*entry.id),
        pinned: slots.is_pinned(entry),
        outdated: slot.outdated,
        weight_bytes: entry.size_bytes,
        scratch_bytes: 0,
        context_length: None,
        in_use: slot.holds,
        running: 0,
        waiting: 0,
        kv_bytes: 0,
        kv_budget_bytes: 0,
        expires_at: None,
        loaded_at: None,
    };
    match &slot.stage {
        Stage::Loading(_) => Some(blank),
        Stage::Leaving(_) => None,
        Stage::Failed(error) => {
            Some(ModelStatus { state: ModelState::Failed, error: Some(error.problem()), ..blank })
        }
        Stage::Ready(model) => {
            let left = slots.expiry(slot).map(|at| at.saturating_duration_since(now));
            let expires_at = left.map(|left| millis(SystemTime::now() + left));
            Some(model_status(model, ModelStatus { expires_at, ..blank }))
        }
    }
}

fn model_status(model: &LoadedModel, blank: ModelStatus) -> ModelStatus {
    let stats = model.engine.stats();
    let problem = |message: &str, code: ErrorCode| Some(ApiError::new(code, message).problem());
    let (state, error) = match &stats.state {
        EngineState::Restarting { message, .. } => {
            (ModelState::Restarting, problem(message, ErrorCode::ModelRestarting))
        }
        EngineState::Failed { message } => (ModelState::Failed, problem(message, ErrorCode::EngineError)),
        EngineState::Loading => (ModelState::Loading, None),
        _ if stats.step_age.is_some_and(|age| age > HUNG) => {
            let message = format!("`{}` has been at one step for more than {} s", model.id, HUNG.as_secs());
            (ModelState::Hung, problem(&message, ErrorCode::EngineError))
        }
        _ => (ModelState::Ready, None),
    };
    ModelStatus {
        state,
        backend: Some(model.needs.backend.to_owned()),
        error,
        weight_bytes: model.needs.weight_bytes,
        scratch_bytes: model.needs.scratch_bytes,
        context_length: Some(model.context_length()),
        running: stats.running,
        waiting: stats.waiting + stats.preempted,
        kv_bytes: stats.kv_used_bytes,
        kv_budget_bytes: stats.kv_budget_bytes,
        loaded_at: Some(millis(model.loaded_at)),
        ..blank
    }
}
