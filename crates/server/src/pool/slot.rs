//! `Slot`: one model's place in the pool, and where the model is in its life.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::catalogue::Entry;
use super::model::LoadedModel;
use crate::config::Lifetime;
use crate::error::ApiError;

/// How a load ended; `None` while it runs.
pub(super) type Outcome = watch::Receiver<Option<Result<(), ApiError>>>;
/// The other end.
pub(super) type Announce = watch::Sender<Option<Result<(), ApiError>>>;

/// Where a model is in its life.
#[derive(Debug)]
pub(super) enum Stage {
    Loading(Outcome),
    Ready(Arc<LoadedModel>),
    /// Its engine is being shut down.
    Leaving(Arc<LoadedModel>),
    /// The last load failed. Kept to be shown; the next request tries again.
    Failed(ApiError),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Arc<Entry>,
    pub(super) stage: Stage,
    /// Tells this stay in memory from the model's other ones; higher is later.
    pub(super) visit: u64,
    pub(super) holds: usize,
    pub(super) last_used: Instant,
    /// How long it stays unused, where somebody said so for this visit.
    pub(super) keep_alive: Option<Lifetime>,
    /// Its settings or files have changed since it was loaded.
    pub(super) outdated: bool,
}

impl Slot {
    /// Whether it counts against the limit.
    pub(super) fn counts(&self) -> bool {
        self.entry.built_in.is_none()
    }

    /// Whether its last load failed: it is shown, and not there.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.stage, Stage::Failed(_))
    }

    pub(super) fn ready(&self) -> Option<&Arc<LoadedModel>> {
        match &self.stage {
            Stage::Ready(model) => Some(model),
            _ => None,
        }
    }

    /// Marks it as leaving.
    pub(super) fn leave(&mut self) -> Option<Arc<LoadedModel>> {
        let model = self.ready()?.clone();
        self.stage = Stage::Leaving(model.clone());
        Some(model)
    }
}
