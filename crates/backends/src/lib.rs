//! `Backends`: the one place that knows which backends exist; the command and the menu bar app start servers with it.
//!
//! Three run models: Perch's own kernels on the CPU, everywhere; candle on Metal, and MLX, on a Mac with Apple silicon. Unless a model
//! names one, MLX takes folders of safetensors (MLX's own quantisations among them), Metal takes GGUF files, and the CPU what is so
//! small that a graphics processor would be slower.

mod choice;
mod found;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::future::BoxFuture;
use perch_backend_candle::{CandleBackend, DeviceKind, LoadError as CandleError, LoadOptions, Pool};
use perch_engine::{EngineHandle, StartError};
use perch_model::ModelError;
use perch_server::{BuiltIn, LoadError, LoadJob, Loader, Needs};

pub use choice::Kind;
pub use found::{Found, find};

/// The backends of this build on this machine. All models share the threads that compute.
pub struct Backends {
    pool: Arc<Pool>,
    /// What is here, looked up when it is first needed: asking for a graphics processor wakes it.
    found: OnceLock<Vec<Found>>,
}

impl Backends {
    /// Backends that compute on so many threads; one for each core if not said.
    pub fn new(wanted: Option<NonZeroUsize>) -> Self {
        Self { pool: Arc::new(Pool::new(threads(wanted))), found: OnceLock::new() }
    }

    fn found(&self) -> &[Found] {
        self.found.get_or_init(|| find(self.pool.threads()))
    }

    fn choose(&self, job: &LoadJob) -> Result<Kind, LoadError> {
        choice::choose(|| self.found(), job.backend.as_deref(), &job.checkpoint)
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

    fn needs(&self, job: &LoadJob) -> Needs {
        let on_cpu = Needs::on_cpu(job);
        // What cannot be chosen is for loading to say.
        let Ok(kind) = self.choose(job) else { return on_cpu };
        match kind {
            Kind::Cpu => on_cpu,
            // Weights are copied to the device, as they are stored unless they are rounded.
            Kind::Metal | Kind::Mlx => Needs {
                weight_bytes: match job.quantize {
                    None => job.checkpoint.weights_bytes(),
                    Some(_) => on_cpu.weight_bytes,
                },
                mapped_bytes: 0,
                device_limit: self.found().iter().find(|one| one.kind == kind).and_then(|one| one.memory),
                backend: kind.name(),
                ..on_cpu
            },
        }
    }

    fn load(&self, job: LoadJob) -> BoxFuture<'static, Result<EngineHandle, LoadError>> {
        let chosen = self.choose(&job);
        let pool = self.pool.clone();
        Box::pin(async move {
            match chosen? {
                Kind::Cpu => candle(job, pool, DeviceKind::Cpu).await,
                Kind::Metal => candle(job, pool, DeviceKind::Metal).await,
                #[cfg(feature = "mlx")]
                Kind::Mlx => mlx(job).await,
                #[cfg(not(feature = "mlx"))]
                Kind::Mlx => Err(LoadError::Unavailable { name: "mlx", reason: found::NO_MLX.to_owned() }),
            }
        })
    }
}

async fn candle(job: LoadJob, pool: Arc<Pool>, device: DeviceKind) -> Result<EngineHandle, LoadError> {
    let options = LoadOptions {
        quantize: job.quantize,
        context_length: job.engine.context_length,
        device,
        ..LoadOptions::new(pool)
    };
    let damage = Damage::default();
    let found = damage.clone();
    let build = move || {
        CandleBackend::load(&job.checkpoint, &options).map_err(|error| match error {
            CandleError::Model(error) => found.keep(error),
            other => other.to_string(),
        })
    };
    damage.or(EngineHandle::start(job.id, job.engine, build).await)
}

#[cfg(feature = "mlx")]
async fn mlx(job: LoadJob) -> Result<EngineHandle, LoadError> {
    use perch_backend_mlx::{DeviceKind, LoadError as MlxError, LoadOptions, MlxBackend};
    let gpu = perch_backend_mlx::gpu();
    let options = LoadOptions {
        quantize: job.quantize,
        context_length: job.engine.context_length,
        device: if gpu.is_some() { DeviceKind::Gpu } else { DeviceKind::Cpu },
        float: None,
        memory_limit: gpu.map(|gpu| gpu.working_set).filter(|bytes| *bytes > 0),
    };
    let damage = Damage::default();
    let found = damage.clone();
    let build = move || {
        MlxBackend::load(job.checkpoint.clone(), options.clone()).map_err(|error| match error {
            MlxError::Model(error) => found.keep(error),
            other => other.to_string(),
        })
    };
    damage.or(EngineHandle::start(job.id, job.engine, build).await)
}

/// What was wrong with a model's files. The engine passes on a failure's text only, and this has a code of its own.
#[derive(Clone, Default)]
struct Damage(Arc<Mutex<Option<ModelError>>>);

impl Damage {
    /// Keeps the error, and returns its text.
    fn keep(&self, error: ModelError) -> String {
        let text = error.to_string();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        text
    }

    /// What starting an engine has come to.
    fn or(self, started: Result<EngineHandle, StartError>) -> Result<EngineHandle, LoadError> {
        let damage = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        started.map_err(|error| damage.map_or(LoadError::Engine(error), LoadError::Model))
    }
}
