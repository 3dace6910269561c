//! `Driver`: an engine without a thread, stepped by hand, so that a test decides what happens in which step.

use std::sync::Arc;

use crate::engine::{Engine, Submission};
use crate::shared::Shared;
use crate::validate::{check_limits, effective_limits, validate};
use crate::{Backend, EngineConfig, EngineError, EngineStats, GenerateRequest, Generation, Limits};

/// An engine and its backend on the caller's thread.
pub struct Driver<B> {
    engine: Engine,
    backend: B,
    config: EngineConfig,
    limits: Limits,
    shared: Arc<Shared>,
}

impl<B: Backend> Driver<B> {
    /// An idle engine.
    ///
    /// # Panics
    /// When the sizes cannot work.
    pub fn new(backend: B, config: EngineConfig) -> Self {
        let limits = backend.limits();
        check_limits(&limits, &config).expect("the sizes must work");
        Self {
            engine: Engine::new(&limits, &config),
            shared: Arc::new(Shared::new(config.queue_limit, config.kv_budget_bytes)),
            limits: effective_limits(&limits, &config),
            backend,
            config,
        }
    }

    /// As [`crate::EngineHandle::generate`].
    pub fn submit(&mut self, request: GenerateRequest) -> Result<Generation, EngineError> {
        validate(&request, &self.limits, &self.config)?;
        let slot = Some(self.shared.enter_queue()?);
        let (generation, events) = Generation::new(request.n, self.shared.clone());
        self.engine.submit(Submission { request, events, slot });
        Ok(generation)
    }

    /// One step; an error is one after which the thread would restart the backend.
    pub fn step(&mut self) -> Result<(), String> {
        self.engine.step(&mut self.backend).map_err(|fatal| fatal.0)
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.engine.is_idle()
    }

    /// What the thread does when it falls idle.
    pub fn rest(&mut self) {
        self.engine.rest();
    }

    /// Verifies the books: reference counts, sums, places.
    pub fn check(&self) -> Result<(), String> {
        self.engine.check()
    }

    /// A snapshot, less what only a thread has (state, queue, rates).
    pub fn stats(&self) -> EngineStats {
        self.engine.stats()
    }

    /// The limits that requests are held against.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
