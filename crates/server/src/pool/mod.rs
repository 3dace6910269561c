//! `ModelPool`: the loaded models. Loads on request, evicts what was not used longest, and never what is in use.
//!
//! However many requests want a model that is not there, it is loaded once, and if that fails they all get the reason.
//! A model leaves when its place is needed, when it was idle for [`PoolConfig::idle_ttl`], or when its engine has been
//! given up; its engine's thread has ended before its place counts as free.

mod catalogue;
mod load;
mod memory;
mod model;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use perch_engine::EngineState;
use perch_protocol::{ErrorCode, ModelState, ModelStatus};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use catalogue::Entry;
pub use model::{Lease, LoadedModel};

pub(crate) use catalogue::Catalogue;

use crate::clock::millis;
use crate::config::PoolConfig;
use crate::error::ApiError;
use crate::loader::Loader;
use model::Pin;
use slots::{Outcome, Slots, Stage, Taken};

/// No step takes longer; the slowest chunk of a prompt on a slow machine takes a fraction of this.
const HUNG: Duration = Duration::from_secs(180);

/// The loaded models. Clones are the same pool.
#[derive(Clone)]
pub struct ModelPool {
    inner: Arc<Inner>,
}

struct Inner {
    config: PoolConfig,
    catalogue: Catalogue,
    default_model: Option<String>,
    loader: Arc<dyn Loader>,
    slots: Mutex<Slots>,
    /// One load at a time.
    loading: Semaphore,
    /// Counts up whenever a slot has changed.
    changed: watch::Sender<u64>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl ModelPool {
    pub(crate) fn new(
        config: PoolConfig,
        (catalogue, default_model): (Catalogue, Option<String>),
        loader: Arc<dyn Loader>,
    ) -> Self {
        let inner = Arc::new(Inner {
            config,
            catalogue,
            default_model,
            loader,
            slots: Mutex::default(),
            loading: Semaphore::new(1),
            changed: watch::Sender::new(0),
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        inner.tracker.spawn(reap(inner.clone()));
        Self { inner }
    }

    /// The right to use the model called `name`, or the default model. Loads it if need be, for at most
    /// [`PoolConfig::load_timeout`].
    ///
    /// # Errors
    /// `model_not_found`, whatever the load failed with, or `model_loading` when it took too long or all places are in use.
    pub async fn lease(&self, name: Option<&str>) -> Result<Lease, ApiError> {
        let (name, entry) = self.named(name).await?;
        let deadline = tokio::time::Instant::now() + self.inner.config.load_timeout;
        let mut changed = self.inner.changed.subscribe();
        loop {
            if self.inner.stop.is_cancelled() {
                return Err(ApiError::stopping());
            }
            changed.mark_unchanged();
            let taken = self.inner.slots.lock().take(&name, &entry, self.inner.config.max_models);
            let outcome = match taken {
                Taken::Ready(model) => return Ok(Lease::new(model, self.pin(&entry))),
                Taken::Loading(outcome) => outcome,
                Taken::Start(outcome, sender) => {
                    self.inner.tracker.spawn(run_load(self.inner.clone(), entry.clone(), sender));
                    outcome
                }
                Taken::Evict(model) => {
                    let pool = self.inner.clone();
                    self.inner.tracker.spawn(async move { pool.unload(model).await });
                    continue;
                }
                Taken::Wait => {
                    let waited = timeout_at(deadline, changed.changed()).await;
                    waited.map_err(|_| self.no_place(&entry))?.map_err(|_| ApiError::stopping())?;
                    continue;
                }
            };
            // The pin holds the model from before it is there until the lease takes it over.
            let pin = self.pin(&entry);
            self.inner.touch();
            timeout_at(deadline, finished(outcome)).await.map_err(|_| still_loading(&entry))??;
            let ready = self.inner.slots.lock().ready(&name, &entry);
            return ready.map(|model| Lease::new(model, pin)).ok_or_else(ApiError::stopping);
        }
    }

    /// All models that requests may name, by id.
    pub async fn list(&self) -> Vec<Entry> {
        let pool = self.inner.clone();
        tokio::task::spawn_blocking(move || pool.catalogue.list()).await.unwrap_or_default()
    }

    /// The model called `name`, loaded or not.
    ///
    /// # Errors
    /// `model_not_found`.
    pub async fn find(&self, name: &str) -> Result<Arc<Entry>, ApiError> {
        if let Some(entry) = self.inner.slots.lock().known(name) {
            return Ok(entry);
        }
        let (pool, name) = (self.inner.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || pool.catalogue.find(&name)).await;
        found
            .map_err(|_| ApiError::new(ErrorCode::EngineError, "looking for the model failed"))?
            .map(Arc::new)
    }

    /// The model in memory with this id.
    pub fn loaded(&self, id: &str) -> Option<Arc<LoadedModel>> {
        self.all_loaded().into_iter().find(|model| model.id == id)
    }

    /// Models in memory.
    pub fn all_loaded(&self) -> Vec<Arc<LoadedModel>> {
        let slots = self.inner.slots.lock();
        let ready = slots.iter().filter_map(|slot| match &slot.stage {
            Stage::Ready(model) => Some(model.clone()),
            _ => None,
        });
        ready.collect()
    }

    /// The id of the model that answers requests which name none, if one was configured.
    pub fn default_model(&self) -> Option<&str> {
        self.inner.default_model.as_deref()
    }

    /// Models in memory, on their way there, or failed.
    pub fn status(&self) -> Vec<ModelStatus> {
        let ttl = self.inner.config.idle_ttl;
        let now = tokio::time::Instant::now();
        let slots = self.inner.slots.lock();
        let visible = slots.iter().filter_map(|slot| {
            let blank = ModelStatus {
                id: slot.entry.id.clone(),
                state: ModelState::Loading,
                error: None,
                weight_bytes: slot.entry.size_bytes,
                context_length: None,
                running: 0,
                waiting: 0,
                kv_bytes: 0,
                kv_budget_bytes: 0,
                expires_at: None,
                loaded_at: None,
            };
            match &slot.stage {
                Stage::Loading(_) => Some(blank),
                Stage::Leaving => None,
                Stage::Failed(error) => {
                    Some(ModelStatus { state: ModelState::Failed, error: Some(error.problem()), ..blank })
                }
                Stage::Ready(model) => {
                    let expiry = ttl.filter(|_| slot.pins == 0).map(|ttl| slot.last_used + ttl);
                    let left = expiry.map(|at| at.saturating_duration_since(now));
                    let expires_at = left.map(|left| millis(std::time::SystemTime::now() + left));
                    Some(ModelStatus { expires_at, ..model_status(model, blank) })
                }
            }
        });
        visible.collect()
    }

    /// Announces that a model came, went or changed its state, or that a lease began or ended.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Takes no more requests and ends the pool's own tasks.
    pub(crate) fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.touch();
    }

    /// Ends every engine and waits for them and for the pool's own tasks. What still runs gets an error.
    pub(crate) async fn shutdown(&self) {
        self.stop();
        self.unload_all().await;
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
        // A load that ended just then.
        self.unload_all().await;
    }

    async fn unload_all(&self) {
        let models = self.inner.slots.lock().evict_all();
        futures_util::future::join_all(models.into_iter().map(|model| self.inner.unload(model))).await;
    }

    fn pin(&self, entry: &Entry) -> Pin {
        Pin { pool: self.inner.clone(), id: entry.id.clone() }
    }

    /// The model that a request means, and what it called it.
    async fn named(&self, name: Option<&str>) -> Result<(String, Arc<Entry>), ApiError> {
        let name = match (name.filter(|name| !name.is_empty()), &self.inner.default_model) {
            (Some(name), _) => name.to_owned(),
            (None, Some(default)) => default.clone(),
            (None, None) => self.only_model().await?,
        };
        let entry = self.find(&name).await?;
        Ok((name, entry))
    }

    /// The only model there is, for requests that name none.
    async fn only_model(&self) -> Result<String, ApiError> {
        let mut models = self.list().await;
        match (models.pop(), models.len()) {
            (Some(only), 0) => Ok(only.id),
            (None, _) => Err(ApiError::new(
                ErrorCode::ModelNotFound,
                "there are no models on this machine; put one into a folder named by `models_dirs`",
            )
            .with_param("model")),
            _ => Err(ApiError::invalid("model", "name a model; GET /v1/models lists them")),
        }
    }

    fn no_place(&self, entry: &Entry) -> ApiError {
        let message = format!(
            "`{}` waits for a place: all {} are in use; try again, or raise `max_models`",
            entry.id, self.inner.config.max_models
        );
        ApiError::new(ErrorCode::ModelLoading, message).retry_after(5)
    }
}

impl Inner {
    /// Tells everyone who watches that something has changed.
    fn touch(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn evict_idle(&self) -> Option<Arc<LoadedModel>> {
        self.slots.lock().evict_idle()
    }

    /// Ends the engine of a model that is marked as leaving, and frees its place.
    async fn unload(&self, model: Arc<LoadedModel>) {
        self.touch();
        model.engine.shutdown().await;
        tracing::info!(model = model.id, "unloaded");
        self.slots.lock().left(&model.id);
        self.touch();
    }

    /// Bytes that loaded models may still take: their budgets, less what they hold already.
    fn promised(&self) -> u64 {
        let slots = self.slots.lock();
        let rest = slots.iter().filter_map(|slot| match &slot.stage {
            Stage::Ready(model) => {
                let stats = model.engine.stats();
                Some(stats.kv_budget_bytes.saturating_sub(stats.kv_used_bytes))
            }
            _ => None,
        });
        rest.sum()
    }
}

/// Loads a model, and tells those who wait for it.
async fn run_load(
    pool: Arc<Inner>,
    entry: Arc<catalogue::Entry>,
    outcome: watch::Sender<Option<Result<(), ApiError>>>,
) {
    // A task of its own, so that a panic in a loader is an error like any other.
    let loading = tokio::spawn({
        let (pool, entry) = (pool.clone(), entry.clone());
        async move {
            tokio::select! {
                loaded = load::load(&pool, &entry) => loaded,
                () = pool.stop.cancelled() => Err(ApiError::stopping()),
            }
        }
    });
    let result = loading.await.unwrap_or_else(|panic| {
        Err(ApiError::new(ErrorCode::EngineError, format!("loading `{}` failed: {panic}", entry.id)))
    });
    match &result {
        Ok(model) => {
            pool.tracker.spawn(follow(pool.clone(), model.clone()));
        }
        Err(error) => tracing::warn!(model = entry.id, code = %error.code, "{error}"),
    }
    let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
    pool.slots.lock().loaded(&entry.id, result);
    outcome.send_replace(Some(told));
    pool.touch();
}

/// Passes on every change of an engine's state until it ends.
async fn follow(pool: Arc<Inner>, model: Arc<LoadedModel>) {
    let mut state = model.engine.watch();
    drop(model);
    while let Some(Ok(())) = pool.stop.run_until_cancelled(state.changed()).await {
        pool.touch();
        if *state.borrow_and_update() == EngineState::Closed {
            break;
        }
    }
}

/// Unloads models that nobody has used for a while.
async fn reap(pool: Arc<Inner>) {
    let Some(ttl) = pool.config.idle_ttl else { return };
    let mut changed = pool.changed.subscribe();
    loop {
        while let Some(expired) = { pool.slots.lock().evict_expired(ttl) } {
            pool.unload(expired).await;
        }
        let expiry = pool.slots.lock().next_expiry(ttl);
        tokio::select! {
            () = async { match expiry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            } } => {}
            _ = changed.changed() => {}
            () = pool.stop.cancelled() => return,
        }
    }
}

/// How a load ends.
async fn finished(mut outcome: Outcome) -> Result<(), ApiError> {
    match outcome.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or(Ok(())),
        Err(_) => Err(ApiError::stopping()),
    }
}

fn still_loading(entry: &Entry) -> ApiError {
    let message = format!("`{}` is still loading; try again", entry.id);
    ApiError::new(ErrorCode::ModelLoading, message).retry_after(5)
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
        error,
        weight_bytes: model.weight_bytes,
        context_length: Some(model.context_length()),
        running: stats.running,
        waiting: stats.waiting + stats.preempted,
        kv_bytes: stats.kv_used_bytes,
        kv_budget_bytes: stats.kv_budget_bytes,
        loaded_at: Some(millis(model.loaded_at)),
        ..blank
    }
}
