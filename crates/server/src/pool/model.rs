//! `LoadedModel`: a model in memory, and `Lease`, the right to use it.

use std::sync::Arc;
use std::time::SystemTime;

use perch_engine::{EngineHandle, EngineState};

use super::Inner;
use super::catalogue::Entry;
use super::memory::Share;
use crate::config::SamplingDefaults;
use crate::loader::Needs;
use crate::loading::ModelText;

/// A model in memory.
#[derive(Debug)]
pub struct LoadedModel {
    /// What requests call it.
    pub id: String,
    /// The door to its engine.
    pub engine: EngineHandle,
    /// Its tokenizer, template and the rest that turns text into tokens and back.
    pub text: Arc<ModelText>,
    /// What it takes, as foretold.
    pub needs: Needs,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// Memory that was set aside for it.
    pub(super) share: Share,
}

impl LoadedModel {
    /// Longest sequence in tokens.
    pub fn context_length(&self) -> usize {
        self.engine.limits().context_length
    }

    /// Whether its engine will never answer again.
    pub(super) fn is_given_up(&self) -> bool {
        matches!(*self.engine.watch().borrow(), EngineState::Failed { .. } | EngineState::Closed)
    }
}

/// The right to use a model: while it lives the model is not evicted.
#[derive(Debug)]
pub struct Lease {
    model: Arc<LoadedModel>,
    entry: Arc<Entry>,
    _hold: Hold,
}

impl Lease {
    pub(super) fn new(model: Arc<LoadedModel>, entry: Arc<Entry>, hold: Hold) -> Self {
        Self { model, entry, _hold: hold }
    }

    /// What the model is called and how it is configured.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// What it samples with unless a request says: what is configured, then what its makers say.
    pub fn defaults(&self) -> SamplingDefaults {
        self.entry.config.defaults.clone().or(&self.model.text.defaults)
    }
}

impl std::ops::Deref for Lease {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.model
    }
}

/// Keeps a slot from being evicted; given back when dropped.
pub(super) struct Hold {
    pub(super) pool: Arc<Inner>,
    pub(super) id: String,
    pub(super) visit: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pool.slots.lock().release(&self.id, self.visit);
        self.pool.touch();
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hold").field(&self.id).finish()
    }
}
