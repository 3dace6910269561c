//! `Loader`: how the server gets an engine for a checkpoint without knowing any backend.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use perch_engine::{EngineConfig, EngineHandle};
use perch_model::{Checkpoint, ModelError, ModelSpec, Quantize};

/// A model to be loaded.
#[derive(Debug, Clone)]
pub struct LoadJob {
    /// What the model is called; names its engine thread.
    pub id: String,
    /// Its files, opened and validated.
    pub checkpoint: Arc<Checkpoint>,
    /// What it is.
    pub spec: Arc<ModelSpec>,
    /// Which backend is to run it; `None` leaves it to the loader.
    pub backend: Option<String>,
    /// Round float weights to this.
    pub quantize: Option<Quantize>,
    /// Sizes of its engine. The KV budget is set after [`Loader::needs`] has answered.
    pub engine: EngineConfig,
}

/// What a model takes, foretold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of its weights once loaded, mapped ones included.
    pub weight_bytes: u64,
    /// Bytes of KV for one token.
    pub kv_bytes_per_token: u64,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Its files are damaged or not supported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its engine could not be started.
    #[error(transparent)]
    Engine(#[from] perch_engine::StartError),
    /// There is no backend of the name that was asked for.
    #[error("there is no backend `{name}`; there are: {known}")]
    UnknownBackend {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

/// Starts engines. The composition root implements it with the backends that it was built with.
pub trait Loader: Send + Sync + 'static {
    /// What the model would take. The default counts the file's bytes, and KV in 16 bits.
    fn needs(&self, job: &LoadJob) -> Needs {
        let floats: usize =
            job.spec.layers.iter().map(|layer| layer.mixer.kv_width()).map(|(k, v)| k + v).sum();
        Needs { weight_bytes: job.checkpoint.weights_bytes(), kv_bytes_per_token: 2 * floats as u64 }
    }

    /// Loads the model and starts its engine.
    fn load(&self, job: LoadJob) -> BoxFuture<'static, Result<EngineHandle, LoadError>>;
}
