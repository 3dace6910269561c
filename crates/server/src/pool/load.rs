//! Loading one model: files, text, memory, engine. Runs as a task of the pool's own, so that a client that goes away
//! does not stop what others wait for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use perch_engine::EngineConfig;
use perch_model::{Checkpoint, SpecOptions};
use perch_protocol::ErrorCode;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::catalogue::Entry;
use super::memory::{self, KvLimits, Limit, Room, Share, Shortage};
use super::model::LoadedModel;
use super::slot::Stage;
use super::{Inner, Wanting};
use crate::config::PoolConfig;
use crate::error::ApiError;
use crate::loader::{LoadError, LoadJob, Needs};
use crate::loading::ModelText;

/// Tokens of KV that the built-in model may hold: enough for a few conversations, and little of the machine's memory.
const BUILT_IN_TOKENS: u64 = 16_384;
/// While a load waits for memory, how often it looks whether other programs have freed some.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Loads `entry`. Loads run one after the other, each until its model is in the books: another would count on the same
/// memory. The turn comes back with the model, to be given back then.
pub(super) async fn load(
    pool: &Arc<Inner>,
    entry: &Entry,
    visit: u64,
) -> Result<(Arc<LoadedModel>, OwnedSemaphorePermit), ApiError> {
    let (files, text) = open(entry, &pool.config).await?;
    let mut job = LoadJob {
        id: entry.id.clone(),
        checkpoint: files.checkpoint,
        spec: files.spec,
        backend: entry.config.backend.clone().or_else(|| pool.config.backend.clone()),
        quantize: entry.config.quantize.or(pool.config.quantize),
        engine: engine_config(&pool.config),
    };
    let needs = pool.loader.needs(&job);
    let limits = kv_limits(&pool.config, entry, needs, job.spec.context_length);
    let (share, turn) = room(pool, (entry, visit), needs, limits).await?;
    job.engine.kv_budget_bytes = share.kv;
    job.engine.prefix_cache_bytes = share.prefixes;
    job.engine.context_length = Some(job.spec.context_length);
    tracing::info!(model = entry.id, kv_budget = share.kv, weights = share.weights, "loading");
    let begun = std::time::Instant::now();
    let engine = pool.loader.load(job).await.map_err(|error| failed(entry, error))?;
    tracing::info!(model = entry.id, seconds = begun.elapsed().as_secs_f32(), "loaded");
    let model = LoadedModel {
        id: entry.id.clone(),
        engine,
        text: Arc::new(text),
        needs,
        loaded_at: SystemTime::now(),
        share,
    };
    Ok((Arc::new(model), turn))
}

/// What the KV of a model may be.
fn kv_limits(config: &PoolConfig, entry: &Entry, needs: Needs, context: usize) -> KvLimits {
    let of_all = match entry.built_in {
        Some(_) => Some(needs.kv_bytes_per_token * BUILT_IN_TOKENS),
        None => config.kv_budget,
    };
    KvLimits {
        context,
        sequences: config.max_sequences,
        budget: entry.config.kv_budget.map(|size| size.0).or(of_all),
        prefixes: config.prefix_cache.filter(|_| entry.built_in.is_none()),
    }
}

/// Memory for a model, and the turn to take it. Evicts what is idle, if that helps; waits for what is in use, if that
/// will help; refuses at once what cannot fit.
async fn room(
    pool: &Arc<Inner>,
    (entry, visit): (&Entry, u64),
    needs: Needs,
    limits: KvLimits,
) -> Result<(Share, OwnedSemaphorePermit), ApiError> {
    let deadline = Instant::now() + pool.config.load_timeout;
    let mut changed = pool.changed.subscribe();
    let mut wanting = None;
    loop {
        let turn = pool.loading.clone().acquire_owned().await.map_err(|_| ApiError::stopping())?;
        changed.mark_unchanged();
        match pool.fit(needs, limits, entry.built_in.is_none()) {
            Fit::Fits(share) => return Ok((share, turn)),
            Fit::Evict(model) => pool.unload(model).await,
            Fit::Never(shortage) => return Err(insufficient(entry, shortage)),
            Fit::Wait(shortage) => {
                drop(turn);
                wanting.get_or_insert_with(|| Wanting::new(pool, &entry.id));
                // Wakes by itself as well: memory also comes free outside this process.
                let next = deadline.min(Instant::now() + LOOK_AGAIN);
                let _ = timeout_at(next, changed.changed()).await;
                if Instant::now() >= deadline || pool.slots.lock().abandon(&entry.id, visit) {
                    return Err(insufficient(entry, shortage));
                }
            }
        }
    }
}

/// Whether a model fits.
enum Fit {
    Fits(Share),
    /// It may when this one has left.
    Evict(Arc<LoadedModel>),
    /// It will when models that are in use now have left.
    Wait(Shortage),
    Never(Shortage),
}

impl Inner {
    fn fit(&self, needs: Needs, limits: KvLimits, evicts: bool) -> Fit {
        let available = memory::available();
        let mut slots = self.slots.lock();
        let (mut outstanding, mut given, mut idle, mut later) = (0u64, 0u64, 0u64, 0u64);
        for slot in slots.iter() {
            let model = match &slot.stage {
                Stage::Ready(model) | Stage::Leaving(model) => model,
                Stage::Loading(_) | Stage::Failed(_) => continue,
            };
            let total = model.share.total();
            given = given.saturating_add(total);
            outstanding =
                outstanding.saturating_add(model.share.outstanding(model.engine.stats().kv_used_bytes));
            match () {
                () if slots.can_leave(slot) => idle = idle.saturating_add(total),
                () if slot.ready().is_some() && slots.is_pinned(&slot.entry) && !slot.outdated => {}
                () => later = later.saturating_add(total),
            }
        }
        let limit = Limit::least(self.config.memory_limit, needs.device_limit);
        let room = Room::new(available, outstanding, given, limit);
        let shortage = match memory::share(needs, limits, room) {
            Ok(share) => return Fit::Fits(share),
            Err(shortage) => shortage,
        };
        let fits_without = |bytes| evicts && memory::share(needs, limits, room.without(bytes)).is_ok();
        match () {
            () if fits_without(idle) => slots.evict_idle().map_or(Fit::Never(shortage), Fit::Evict),
            () if fits_without(idle.saturating_add(later)) => Fit::Wait(shortage),
            () => Fit::Never(shortage),
        }
    }
}

struct Files {
    checkpoint: Arc<Checkpoint>,
    spec: Arc<perch_model::ModelSpec>,
}

/// Opens the files and builds what text needs, where blocking is allowed.
async fn open(entry: &Entry, config: &PoolConfig) -> Result<(Files, ModelText), ApiError> {
    let (id, path, built_in) = (entry.id.clone(), entry.path.clone(), entry.built_in);
    let options = SpecOptions { context: entry.config.context.or(config.context) };
    let opened = tokio::task::spawn_blocking(move || {
        let checkpoint = match built_in {
            Some(model) => Checkpoint::open_static(&id, model.gguf)?,
            None => Checkpoint::open(path)?,
        };
        let spec = checkpoint.spec(&options)?;
        let text = ModelText::open(&checkpoint)?;
        Ok((Files { checkpoint: Arc::new(checkpoint), spec: Arc::new(spec) }, text))
    });
    opened
        .await
        .unwrap_or_else(|_| Err(ApiError::new(ErrorCode::EngineError, "reading the model's files failed")))
}

fn engine_config(config: &PoolConfig) -> EngineConfig {
    EngineConfig {
        queue_limit: config.queue_limit,
        max_sequences: config.max_sequences,
        max_batch_tokens: config.max_batch_tokens,
        ..EngineConfig::default()
    }
}

fn insufficient(entry: &Entry, shortage: memory::Shortage) -> ApiError {
    let more = match shortage.room.limit {
        Some(Limit::Configured(_)) => "raise it",
        Some(Limit::Device(_)) => "run it with `backend = \"cpu\"`",
        None => "close other programs",
    };
    let message = format!(
        "there is not enough memory for `{}`: {shortage}; {more}, choose a smaller model, or lower `context` or \
         `kv_budget`",
        entry.id
    );
    ApiError::new(ErrorCode::InsufficientMemory, message).retry_after(10)
}

fn failed(entry: &Entry, error: LoadError) -> ApiError {
    match error {
        LoadError::Model(error) => error.into(),
        LoadError::UnknownBackend { .. } | LoadError::Unavailable { .. } => {
            ApiError::new(ErrorCode::InvalidValue, format!("`{}` cannot be loaded: {error}", entry.id))
        }
        error => ApiError::new(ErrorCode::EngineError, format!("`{}` cannot be loaded: {error}", entry.id)),
    }
}
