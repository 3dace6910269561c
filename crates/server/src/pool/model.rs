//! `LoadedModel`: a model in memory, and `Lease`, the right to use it.

use std::sync::Arc;
use std::time::SystemTime;

use perch_engine::{EngineHandle, EngineState};

use super::Inner;
use crate::config::SamplingDefaults;
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
    /// What it samples with unless a request says.
    pub defaults: SamplingDefaults,
    /// Bytes of its weights, as foretold.
    pub weight_bytes: u64,
    /// When it was loaded.
    pub loaded_at: SystemTime,
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
    _pin: Pin,
}

impl Lease {
    pub(super) fn new(model: Arc<LoadedModel>, pin: Pin) -> Self {
        Self { model, _pin: pin }
    }
}

impl std::ops::Deref for Lease {
    type Target = LoadedModel;

    fn deref(&self) -> &LoadedModel {
        &self.model
    }
}

/// Keeps a slot from being evicted; given back when dropped.
pub(super) struct Pin {
    pub(super) pool: Arc<Inner>,
    pub(super) id: String,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.pool.slots.lock().unpin(&self.id);
        self.pool.touch();
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pin").field(&self.id).finish()
    }
}
