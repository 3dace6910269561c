//! `Shared`: the little that the engine thread and its handles both see. Locks are held for a copy, never across work.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::{EngineError, EngineState, EngineStats};

/// Longest wait that [`EngineError::QueueFull`] suggests.
const MAX_RETRY_AFTER_S: u64 = 60;

/// What the thread publishes and the handles read.
pub(crate) struct Shared {
    state: watch::Sender<EngineState>,
    published: Mutex<Published>,
    waiting: AtomicUsize,
    queue_limit: usize,
    closing: AtomicBool,
}

/// Written by the engine thread after each step.
struct Published {
    stats: EngineStats,
    step_started: Option<Instant>,
    /// Recent time between two requests that end.
    interval: Duration,
}

impl Shared {
    pub(crate) fn new(queue_limit: usize, kv_budget_bytes: u64) -> Self {
        let stats = EngineStats::new(kv_budget_bytes);
        Self {
            state: watch::Sender::new(EngineState::Loading),
            published: Mutex::new(Published { stats, step_started: None, interval: Duration::ZERO }),
            waiting: AtomicUsize::new(0),
            queue_limit,
            closing: AtomicBool::new(false),
        }
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A snapshot with the present state, queue and step age.
    pub(crate) fn stats(&self) -> EngineStats {
        let published = self.published();
        let mut stats = published.stats.clone();
        stats.step_age = published.step_started.map(|at| at.elapsed());
        drop(published);
        stats.state = self.state.borrow().clone();
        stats.waiting = self.waiting.load(Ordering::Relaxed);
        stats
    }

    /// Replaces the published snapshot (its state, queue and step age are filled in by the reader).
    pub(crate) fn publish(&self, stats: EngineStats, interval: Duration) {
        let mut published = self.published();
        published.stats = stats;
        published.interval = interval;
        published.step_started = None;
    }

    /// Notes that a step begins now.
    pub(crate) fn step_begins(&self) {
        self.published().step_started = Some(Instant::now());
    }

    /// Changes the state; watchers hear of it only if it differs.
    pub(crate) fn set_state(&self, state: EngineState) {
        self.state.send_if_modified(|now| {
            let differs = *now != state;
            *now = state;
            differs
        });
    }

    pub(crate) fn watch(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// From now on nothing is taken in.
    pub(crate) fn close_door(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Why nothing can be taken in, if so.
    pub(crate) fn refusal(&self) -> Option<EngineError> {
        match &*self.state.borrow() {
            EngineState::Failed { message } => Some(EngineError::Failed(message.clone())),
            EngineState::Closed => Some(EngineError::Closed),
            _ => self.closing.load(Ordering::Acquire).then_some(EngineError::Closed),
        }
    }

    /// Takes a place in the queue, or says that it is full.
    pub(crate) fn enter_queue(self: &Arc<Self>) -> Result<QueueSlot, EngineError> {
        let limit = self.queue_limit;
        self.waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1))
            .map(|_| QueueSlot(self.clone()))
            .map_err(|waiting| {
                // Half of the queue has begun by then, so most of those who were refused find room.
                let half = self.published().interval.as_secs_f64() * waiting as f64 / 2.0;
                let retry_after_s = (half.ceil() as u64).clamp(1, MAX_RETRY_AFTER_S);
                EngineError::QueueFull { waiting, retry_after_s }
            })
    }
}

/// A place in the queue, given back when it is dropped.
pub(crate) struct QueueSlot(Arc<Shared>);

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
