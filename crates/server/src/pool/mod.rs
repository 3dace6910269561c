//! `ModelPool`: the loaded models. Loads on request, evicts what was not used longest, and never what is in use.
//!
//! However many requests want a model that is not there, it is loaded once, and if that fails they all get the reason.
//! A model leaves when its place or its memory is needed, when nobody used it for its `keep_alive`, when its settings or
//! files have changed, when somebody says so, or when its engine has been given up; its engine's thread has ended before
//! its place counts as free.

mod admin;
mod catalogue;
mod choices;
mod default;
mod load;
mod memory;
mod model;
mod slot;
mod slots;
mod status;

use std::sync::Arc;

use parking_lot::Mutex;
use perch_engine::EngineState;
use perch_protocol::ErrorCode;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use catalogue::Entry;
pub use choices::chosen_default;
pub use model::{Lease, LoadedModel};

pub(crate) use catalogue::Catalogue;
pub(crate) use memory::{RESERVE as SYSTEM_RESERVE, available as available_memory};

use crate::config::{Config, ModelConfig, PoolConfig};
use crate::error::ApiError;
use crate::loader::Loader;
use choices::Choices;
use model::Hold;
use slot::{Announce, Outcome};
use slots::{Slots, Taken};

/// The loaded models. Clones are the same pool.
#[derive(Clone)]
pub struct ModelPool {
    inner: Arc<Inner>,
}

struct Inner {
    config: PoolConfig,
    /// Where the configuration of models is read from again.
    whole: Config,
    catalogue: Catalogue,
    /// The id of the default model, where it is configured.
    configured: Option<String>,
    choices: Choices,
    /// The model that answered last where requests named none.
    answering: Mutex<Option<String>>,
    loader: Arc<dyn Loader>,
    slots: Mutex<Slots>,
    /// One load at a time.
    loading: Arc<Semaphore>,
    /// One restart at a time.
    restarting: tokio::sync::Mutex<()>,
    /// Counts up whenever a slot has changed.
    changed: watch::Sender<u64>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl ModelPool {
    /// A pool over `catalogue`, whose default model may be configured, with what was chosen before. Reads a small file.
    pub(crate) fn new(
        config: &Config,
        (catalogue, configured): (Catalogue, Option<String>),
        loader: Arc<dyn Loader>,
    ) -> Self {
        let choices = Choices::open(&config.data_dir);
        let slots = Slots::new(config.pool.max_models, config.pool.idle_ttl, choices.get().pins);
        let inner = Arc::new(Inner {
            config: config.pool.clone(),
            whole: config.clone(),
            catalogue,
            configured,
            choices,
            answering: Mutex::new(None),
            loader,
            slots: Mutex::new(slots),
            loading: Arc::new(Semaphore::new(1)),
            restarting: tokio::sync::Mutex::new(()),
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
    /// `model_not_found`, whatever the load failed with, `model_loading` when it took too long or all places were in use
    /// for so long, or `conflict` when all places are taken by pinned models.
    pub async fn lease(&self, name: Option<&str>) -> Result<Lease, ApiError> {
        let name = match name.filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => self.default_name().await?,
        };
        let entry = self.find(&name).await?;
        if entry.config.provider.is_some() {
            let message = format!(
                "`{}` runs on another server, and answers conversations, /v1/chat/completions and /v1/completions only",
                entry.id
            );
            return Err(ApiError::unsupported("model", message));
        }
        let deadline = tokio::time::Instant::now() + self.inner.config.load_timeout;
        let mut changed = self.inner.changed.subscribe();
        let mut wanting = None;
        loop {
            if self.inner.stop.is_cancelled() {
                return Err(ApiError::stopping());
            }
            changed.mark_unchanged();
            let taken = self.inner.slots.lock().take(&name, &entry);
            let (outcome, visit) = match taken {
                Taken::Ready(model, visit) => {
                    return Ok(Lease::new(model, entry.clone(), self.hold(&entry, visit)));
                }
                Taken::Loading(outcome, visit) => (outcome, visit),
                Taken::Start(outcome, visit, announce) => {
                    self.inner.tracker.spawn(run_load(self.inner.clone(), entry.clone(), visit, announce));
                    (outcome, visit)
                }
                Taken::Evict(model) => {
                    let pool = self.inner.clone();
                    self.inner.tracker.spawn(async move { pool.unload(model).await });
                    continue;
                }
                Taken::Wait => {
                    wanting.get_or_insert_with(|| Wanting::new(&self.inner, &entry.id));
                    let waited = timeout_at(deadline, changed.changed()).await;
                    waited.map_err(|_| self.no_place(&entry))?.map_err(|_| ApiError::stopping())?;
                    continue;
                }
                Taken::Pinned => return Err(self.all_pinned(&entry)),
            };
            // The hold keeps the model from before it is there until the lease takes it over.
            let hold = self.hold(&entry, visit);
            drop(wanting);
            self.inner.touch();
            timeout_at(deadline, finished(outcome)).await.map_err(|_| still_loading(&entry))??;
            let arrived = self.inner.slots.lock().arrived(visit, &name, &entry);
            return arrived.map(|model| Lease::new(model, entry, hold)).ok_or_else(ApiError::stopping);
        }
    }

    /// All models that requests may name, by id. What was copied in is there a second later.
    pub async fn list(&self) -> Arc<[Arc<Entry>]> {
        let pool = self.inner.clone();
        let listed = tokio::task::spawn_blocking(move || pool.catalogue.list()).await;
        listed.unwrap_or_else(|_| Arc::from([]))
    }

    /// The model called `name`, loaded or not. What was just copied in is found.
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

    /// Says that models have come, gone or changed on the disk: downloads, imports and deletions call it. Names are
    /// looked up anew from now on. Models in memory stay as they are for whoever holds them; one whose files have
    /// changed is loaded anew when it is next asked for.
    pub fn refresh(&self) {
        self.inner.catalogue.refresh();
        self.inner.slots.lock().forget_names();
        self.inner.touch();
    }

    /// The model in memory with this id.
    pub fn loaded(&self, id: &str) -> Option<Arc<LoadedModel>> {
        self.inner.slots.lock().get(id)?.ready().cloned()
    }

    /// Whether the model with this id is in memory, on its way there, or leaving.
    pub(crate) fn is_present(&self, id: &str) -> bool {
        self.inner.slots.lock().get(id).is_some_and(|slot| !slot.has_failed())
    }

    /// The settings of the models.
    pub(crate) fn settings(&self) -> Arc<[ModelConfig]> {
        self.inner.catalogue.settings()
    }

    /// Models in memory.
    pub fn all_loaded(&self) -> Vec<Arc<LoadedModel>> {
        self.inner.slots.lock().iter().filter_map(|slot| slot.ready().cloned()).collect()
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
        let models = self.inner.slots.lock().leave_all();
        futures_util::future::join_all(models.into_iter().map(|model| self.inner.unload(model))).await;
    }

    fn hold(&self, entry: &Entry, visit: u64) -> Hold {
        Hold { pool: self.inner.clone(), id: entry.id.clone(), visit }
    }

    fn no_place(&self, entry: &Entry) -> ApiError {
        let message = format!(
            "`{}` waits for a place: all {} are in use; try again, or raise `max_models`",
            entry.id, self.inner.config.max_models
        );
        ApiError::new(ErrorCode::ModelLoading, message).retry_after(5)
    }

    fn all_pinned(&self, entry: &Entry) -> ApiError {
        let slots = self.inner.slots.lock();
        let pinned = slots.iter().filter(|slot| slot.ready().is_some() && slots.is_pinned(&slot.entry));
        let names: Vec<String> = pinned.map(|slot| format!("`{}`", slot.entry.id)).collect();
        let message = format!(
            "`{}` has no place: {} pinned, and `max_models` is {}; unpin one, or raise `max_models`",
            entry.id,
            if names.len() == 1 { format!("{} is", names[0]) } else { format!("{} are", names.join(", ")) },
            self.inner.config.max_models
        );
        ApiError::new(ErrorCode::Conflict, message).with_param("model")
    }
}

impl Inner {
    /// Tells everyone who watches that something has changed.
    fn touch(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Ends the engine of a model that is marked as leaving, and frees its place.
    async fn unload(&self, model: Arc<LoadedModel>) {
        self.touch();
        model.engine.shutdown().await;
        tracing::info!(model = model.id, "unloaded");
        self.slots.lock().left(&model.id);
        self.touch();
    }
}

/// Says that somebody waits for room for a model, for as long as it lives.
struct Wanting {
    pool: Arc<Inner>,
    number: u64,
}

impl Wanting {
    fn new(pool: &Arc<Inner>, id: &str) -> Self {
        let number = pool.slots.lock().wanting(id);
        Self { pool: pool.clone(), number }
    }
}

impl Drop for Wanting {
    fn drop(&mut self) {
        self.pool.slots.lock().satisfied(self.number);
        // Whoever had to yield may go on.
        self.pool.touch();
    }
}

/// Loads a model, and tells those who wait for it.
async fn run_load(pool: Arc<Inner>, entry: Arc<Entry>, visit: u64, announce: Announce) {
    // A task of its own, so that a panic in a loader is an error like any other.
    let loading = tokio::spawn({
        let (pool, entry) = (pool.clone(), entry.clone());
        async move {
            tokio::select! {
                loaded = load::load(&pool, &entry, visit) => loaded,
                () = pool.stop.cancelled() => Err(ApiError::stopping()),
            }
        }
    });
    let result = loading.await.unwrap_or_else(|panic| {
        Err(ApiError::new(ErrorCode::EngineError, format!("loading `{}` failed: {panic}", entry.id)))
    });
    let (result, turn) = match result {
        Ok((model, turn)) => {
            pool.tracker.spawn(follow(pool.clone(), model.clone()));
            (Ok(model), Some(turn))
        }
        Err(error) => {
            tracing::warn!(model = entry.id, code = %error.code, "{error}");
            (Err(error), None)
        }
    };
    let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
    pool.slots.lock().loaded(&entry.id, visit, result);
    drop(turn);
    announce.send_replace(Some(told));
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

/// Unloads models whose time is over.
async fn reap(pool: Arc<Inner>) {
    let mut changed = pool.changed.subscribe();
    loop {
        changed.mark_unchanged();
        while let Some(expired) = { pool.slots.lock().evict_expired() } {
            pool.unload(expired).await;
        }
        let expiry = pool.slots.lock().next_expiry();
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
