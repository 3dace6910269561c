//! Loading one model: files, text, memory, engine. Runs as a task of the pool's own, so that a client that goes away
//! does not stop what others wait for.

use std::sync::Arc;
use std::time::SystemTime;

use perch_engine::EngineConfig;
use perch_model::{Checkpoint, SpecOptions};
use perch_protocol::ErrorCode;

use super::catalogue::Entry;
use super::model::LoadedModel;
use super::{Inner, memory};
use crate::config::PoolConfig;
use crate::error::ApiError;
use crate::loader::{LoadError, LoadJob};
use crate::loading::ModelText;

/// Loads `entry`. Loads run one after the other: each would otherwise count on memory that the other takes.
pub(super) async fn load(pool: &Arc<Inner>, entry: &Entry) -> Result<Arc<LoadedModel>, ApiError> {
    let _turn = pool.loading.acquire().await.map_err(|_| ApiError::stopping())?;
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
    let share = loop {
        let available = memory::available().saturating_sub(pool.promised());
        match memory::share(needs, job.spec.context_length, available, &pool.config) {
            Ok(share) => break share,
            Err(shortage) => {
                let Some(idle) = pool.evict_idle() else { return Err(insufficient(entry, shortage)) };
                pool.unload(idle).await;
            }
        }
    };
    job.engine.kv_budget_bytes = share.budget;
    job.engine.prefix_cache_bytes = share.prefixes;
    job.engine.context_length = Some(job.spec.context_length);
    tracing::info!(model = entry.id, kv_budget = share.budget, weights = needs.weight_bytes, "loading");
    let begun = std::time::Instant::now();
    let engine = pool.loader.load(job).await.map_err(|error| failed(entry, error))?;
    tracing::info!(model = entry.id, seconds = begun.elapsed().as_secs_f32(), "loaded");
    Ok(Arc::new(LoadedModel {
        id: entry.id.clone(),
        engine,
        defaults: entry.config.defaults.clone().or(&text.defaults),
        text: Arc::new(text),
        weight_bytes: needs.weight_bytes,
        loaded_at: SystemTime::now(),
    }))
}

struct Files {
    checkpoint: Arc<Checkpoint>,
    spec: Arc<perch_model::ModelSpec>,
}

/// Opens the files and builds what text needs, where blocking is allowed.
async fn open(entry: &Entry, config: &PoolConfig) -> Result<(Files, ModelText), ApiError> {
    let path = entry.path.clone();
    let options = SpecOptions { context: entry.config.context.or(config.context) };
    let opened = tokio::task::spawn_blocking(move || {
        let checkpoint = Checkpoint::open(path)?;
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
    let message = format!(
        "there is not enough memory for `{}`: {shortage}; close other programs, choose a smaller model, or lower \
         `context` or `kv_budget`",
        entry.id
    );
    ApiError::new(ErrorCode::InsufficientMemory, message).retry_after(10)
}

fn failed(entry: &Entry, error: LoadError) -> ApiError {
    match error {
        LoadError::Model(error) => error.into(),
        LoadError::UnknownBackend { .. } => {
            ApiError::new(ErrorCode::InvalidValue, format!("`{}` cannot be loaded: {error}", entry.id))
        }
        error => ApiError::new(ErrorCode::EngineError, format!("`{}` cannot be loaded: {error}", entry.id)),
    }
}
