//! `Backends`: the one place that knows which backends exist; the command and the menu bar app start servers with it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use perch_backend_candle::{CandleBackend, LoadError as CandleError, LoadOptions, Pool};
use perch_engine::EngineHandle;
use perch_model::ModelError;
use perch_server::{BuiltIn, LoadError, LoadJob, Loader};

/// The backend that runs models unless another is asked for.
const CANDLE: &str = "candle";

/// The backends of this build. All models share the threads that compute.
pub struct Backends {
    pool: Arc<Pool>,
}

impl Backends {
    /// Backends that compute on so many threads; one for each core if not said.
    pub fn new(wanted: Option<NonZeroUsize>) -> Self {
        Self { pool: Arc::new(Pool::new(threads(wanted))) }
    }
}

/// How many threads compute.
pub fn threads(wanted: Option<NonZeroUsize>) -> usize {
    wanted.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
}

/// The model that every build has within itself: the guide.
pub fn built_in() -> BuiltIn {
    BuiltIn { id: perch_guide::ID, description: perch_guide::DESCRIPTION, gguf: perch_guide::GGUF }
}

impl Loader for Backends {
    fn built_in(&self) -> Option<BuiltIn> {
        Some(built_in())
    }

    fn load(&self, job: LoadJob) -> BoxFuture<'static, Result<EngineHandle, LoadError>> {
        let options = LoadOptions {
            quantize: job.quantize,
            context_length: job.engine.context_length,
            ..LoadOptions::new(self.pool.clone())
        };
        Box::pin(async move {
            if let Some(name) = job.backend.filter(|name| name != CANDLE) {
                return Err(LoadError::UnknownBackend { name, known: CANDLE.to_string() });
            }
            // The engine passes on a failure's text only; what is wrong with the files has a code of its own.
            let damage: Arc<Mutex<Option<ModelError>>> = Arc::default();
            let found = damage.clone();
            let build = move || {
                CandleBackend::load(&job.checkpoint, &options).map_err(|error| {
                    let text = error.to_string();
                    if let CandleError::Model(error) = error {
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    text
                })
            };
            let started = EngineHandle::start(job.id, job.engine, build).await;
            let damage = damage.lock().unwrap_or_else(PoisonError::into_inner).take();
            started.map_err(|error| damage.map_or(LoadError::Engine(error), LoadError::Model))
        })
    }
}
