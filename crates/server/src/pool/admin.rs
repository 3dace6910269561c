//! What a user of this machine does with the models in memory: load, unload and pin them, read the configuration again,
//! rebuild the engines.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use perch_protocol::{ErrorCode, InUse, ModelStatus, Reloaded, Restarted};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Entry, Inner, LoadedModel, ModelPool};
use crate::config::{Lifetime, ModelConfig};
use crate::error::ApiError;

/// How long running answers may go on when the engines are to be rebuilt.
const DRAIN: Duration = Duration::from_secs(5);

impl ModelPool {
    /// Loads a model, or marks it as just used where it is in memory, and says how it is. `keep_alive` holds for this
    /// visit.
    ///
    /// # Errors
    /// As [`ModelPool::lease`].
    pub async fn load(&self, name: &str, keep_alive: Option<Lifetime>) -> Result<ModelStatus, ApiError> {
        let lease = self.lease(Some(name)).await?;
        if let Some(lifetime) = keep_alive {
            self.keep_alive(&lease.id, lifetime);
        }
        self.status_of(&lease.id).ok_or_else(ApiError::stopping)
    }

    /// Sets how long the model `id` stays in memory unused, for this visit. Nothing where it is not there.
    pub fn keep_alive(&self, id: &str, lifetime: Lifetime) {
        self.inner.slots.lock().keep_alive(id, lifetime);
        self.inner.touch();
    }

    /// Unloads a model, pinned or not, and returns its id and whether it was in memory. Its pin stays: loaded again, it
    /// is pinned again.
    ///
    /// # Errors
    /// `model_not_found`; `conflict` where it is loading, or in use and `in_use` says to refuse; or still in use when
    /// waiting for it took longer than [`crate::PoolConfig::load_timeout`].
    pub async fn unload(&self, name: &str, in_use: InUse) -> Result<(String, bool), ApiError> {
        // What was deleted from the disk can still be in memory.
        let id = match self.find(name).await {
            Ok(entry) => entry.id.clone(),
            Err(_) if self.inner.slots.lock().get(name).is_some() => name.to_owned(),
            Err(error) => return Err(error),
        };
        let deadline = Instant::now() + self.inner.config.load_timeout;
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (model, holds) = {
                let mut slots = self.inner.slots.lock();
                let forgotten = slots.forget_failure(&id);
                let Some(slot) = slots.get(&id) else {
                    drop(slots);
                    if forgotten {
                        self.inner.touch();
                    }
                    return Ok((id, false));
                };
                let holds = slot.holds;
                match slot.ready().is_some() && (holds == 0 || in_use == InUse::Cancel) {
                    true => (slots.leave(&id), 0),
                    false => (None, holds),
                }
            };
            if let Some(model) = model {
                // A task of its own: whoever asked for it may go away.
                let pool = self.inner.clone();
                let leaving = self.inner.tracker.spawn(async move { pool.unload(model).await });
                let _ = leaving.await;
                return Ok((id, true));
            }
            if in_use == InUse::Refuse && holds > 0 {
                return Err(still_used(&id, holds));
            }
            // One that is loading is unloaded when it is there; one that is leaving is waited for.
            match timeout_at(deadline, changed.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ApiError::stopping()),
                Err(_) => return Err(still_used(&id, holds)),
            }
        }
    }

    /// Pins a model or takes its pin away, whatever the configuration says, and keeps that over a restart. A pinned model
    /// stays in memory once it is there; it is not loaded for it. Returns its id.
    ///
    /// # Errors
    /// `model_not_found`, or `engine_error` where the choice cannot be kept.
    pub async fn pin(&self, name: &str, pinned: bool) -> Result<String, ApiError> {
        let entry = self.find(name).await?;
        let (pool, id) = (self.inner.clone(), entry.id.clone());
        let as_configured = entry.config.pin == pinned;
        let keep = move || {
            pool.choices.change(|chosen| {
                match as_configured {
                    true => chosen.pins.remove(&id),
                    false => chosen.pins.insert(id, pinned),
                };
            })?;
            pool.slots.lock().pins = pool.choices.get().pins;
            Ok::<_, ApiError>(())
        };
        let kept = tokio::task::spawn_blocking(keep).await;
        kept.map_err(|_| ApiError::new(ErrorCode::EngineError, "keeping the choice failed"))??;
        self.inner.touch();
        Ok(entry.id.clone())
    }

    /// Reads the `[[models]]` of the configuration files again, and looks at the folders anew. Models in
    /// memory whose settings or files have changed are unloaded as soon as nobody uses them.
    ///
    /// # Errors
    /// `invalid_value` with the file, the line and what is wrong; nothing has changed then.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ApiError> {
        let settings = self.read().await?;
        Ok(self.take_over(settings).await)
    }

    async fn take_over(&self, settings: Vec<ModelConfig>) -> Reloaded {
        let ids = |entries: &[Arc<Entry>]| -> BTreeSet<String> {
            entries.iter().map(|entry| entry.id.clone()).collect()
        };
        let before = self.list().await;
        self.inner.catalogue.configure(settings);
        let after = self.list().await;
        let outdated = {
            let mut slots = self.inner.slots.lock();
            slots.forget_names();
            slots.forget_failures();
            slots.outdate(|id| after.iter().find(|entry| entry.id == id).cloned())
        };
        self.inner.touch();
        let (before, now) = (ids(&before), ids(&after));
        tracing::info!(models = now.len(), outdated = outdated.len(), "the models were read again");
        Reloaded {
            models: now.len(),
            added: now.difference(&before).cloned().collect(),
            removed: before.difference(&now).cloned().collect(),
            outdated,
        }
    }

    /// What the configuration files say of models now.
    async fn read(&self) -> Result<Vec<ModelConfig>, ApiError> {
        let config = self.inner.whole.clone();
        let read = tokio::task::spawn_blocking(move || config.models_now()).await;
        let read = read.map_err(|_| ApiError::new(ErrorCode::EngineError, "reading the files failed"))?;
        read.map_err(|error| ApiError::new(ErrorCode::InvalidValue, format!("nothing was changed: {error}")))
    }

    /// Rebuilds everything but the doors: running answers have five seconds to end, then end with an error; all engines
    /// end; the configuration of models is read again; and what was in memory is loaded again. Requests that come
    /// meanwhile wait.
    ///
    /// # Errors
    /// `conflict` while another restart runs; otherwise as [`ModelPool::reload`], with nothing done.
    pub(crate) async fn restart(&self) -> Result<Restarted, ApiError> {
        let pool = self.clone();
        // A task of its own: whoever asked for it may go away.
        let task = self.inner.tracker.spawn(async move { pool.rebuild().await });
        task.await.map_err(|_| ApiError::new(ErrorCode::EngineError, "restarting failed"))?
    }

    async fn rebuild(&self) -> Result<Restarted, ApiError> {
        let Ok(_turn) = self.inner.restarting.try_lock() else {
            return Err(ApiError::new(ErrorCode::Conflict, "Perch is restarting already; wait for it"));
        };
        let settings = self.read().await?;
        tracing::info!("restarting; running answers have {} s", DRAIN.as_secs());
        let paused = Paused::new(&self.inner);
        let mut changed = self.inner.changed.subscribe();
        let deadline = Instant::now() + DRAIN;
        let cancelled = loop {
            changed.mark_unchanged();
            let busy: usize = self.inner.slots.lock().iter().map(|slot| slot.holds).sum();
            if busy == 0 || !self.changed_before(&mut changed, deadline).await {
                break busy;
            }
        };
        let models = self.inner.slots.lock().leave_all();
        let loading: Vec<String> = models.iter().map(|model| model.id.clone()).collect();
        let unloads = models.into_iter().map(|model: Arc<LoadedModel>| self.inner.unload(model));
        futures_util::future::join_all(unloads).await;
        self.take_over(settings).await;
        drop(paused);
        for id in loading.clone() {
            self.begin_to_load(id);
        }
        Ok(Restarted { loading, cancelled })
    }

    /// Waits for a change; `false` when there was none before `deadline`, or the pool ends.
    async fn changed_before(&self, changed: &mut watch::Receiver<u64>, deadline: Instant) -> bool {
        let waited = self.inner.stop.run_until_cancelled(timeout_at(deadline, changed.changed())).await;
        matches!(waited, Some(Ok(Ok(()))))
    }

    /// Begins to load what the configuration wants in memory from the start: the default model it names, and those with
    /// `preload`. Failures are logged and shown by the status.
    pub(crate) fn preload(&self) {
        let settings = self.inner.catalogue.settings();
        let wanted = settings.iter().filter(|model| model.preload && model.is_enabled());
        let mut ids: Vec<String> = self.inner.configured.iter().cloned().collect();
        ids.extend(wanted.map(|model| model.id.clone()));
        let mut seen = BTreeSet::new();
        for id in ids.into_iter().filter(|id| seen.insert(id.clone())) {
            self.begin_to_load(id);
        }
    }

    fn begin_to_load(&self, id: String) {
        let pool = self.clone();
        self.inner.tracker.spawn(async move {
            let stop = pool.inner.stop.clone();
            if let Some(Err(error)) = stop.run_until_cancelled(pool.lease(Some(&id))).await {
                tracing::warn!(model = id, code = %error.code, "not loaded: {error}");
            }
        });
    }
}

/// While it lives, the pool gives nothing out.
struct Paused(Arc<Inner>);

impl Paused {
    fn new(pool: &Arc<Inner>) -> Self {
        pool.slots.lock().paused = true;
        Self(pool.clone())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.slots.lock().paused = false;
        self.0.touch();
    }
}

fn still_used(id: &str, holds: usize) -> ApiError {
    let by = match holds {
        0 => "is on its way into memory or out of it".to_owned(),
        1 => "is used by a request".to_owned(),
        n => format!("is used by {n} requests"),
    };
    let message = format!(
        "`{id}` {by}; try again, or send \"in_use\": \"wait\" to unload it afterwards, or \"cancel\" to end what it \
         answers"
    );
    ApiError::new(ErrorCode::Conflict, message).with_param("model")
}
