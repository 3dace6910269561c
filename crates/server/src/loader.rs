//! `Loader`: how the server gets an engine for a checkpoint without knowing any backend.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use perch_engine::{EngineConfig, EngineHandle};
use perch_model::{Checkpoint, Ffn, Layer, Mixer, Mlp, ModelError, ModelSpec, Quantize};

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
    /// Bytes of its weights once loaded and rounded, mapped ones included.
    pub weight_bytes: u64,
    /// Of these, used in place in mapped files.
    pub mapped_bytes: u64,
    /// Bytes to compute in, beside weights and KV.
    pub scratch_bytes: u64,
    /// Bytes of KV for one token.
    pub kv_bytes_per_token: u64,
    /// Bytes that models on the device which is to run it should take together, where that is less than the machine's memory.
    pub device_limit: Option<u64>,
    /// What is to run it, as users are told: `cpu`, `metal`, `mlx`.
    pub backend: &'static str,
}

impl Needs {
    /// What a model takes on the CPU: the weights as they will be, rounded or not, KV in 16 bits, and what a full step computes in.
    pub fn on_cpu(job: &LoadJob) -> Self {
        let floats: usize =
            job.spec.layers.iter().map(|layer| layer.mixer.kv_width()).map(|(k, v)| k + v).sum();
        let weights = job.checkpoint.footprint(&job.spec, job.quantize);
        Self {
            weight_bytes: weights.total(),
            mapped_bytes: weights.mapped,
            scratch_bytes: scratch(&job.spec, &job.engine),
            kv_bytes_per_token: 2 * floats as u64,
            device_limit: None,
            backend: "cpu",
        }
    }
}

/// A model that is part of the program.
#[derive(Clone, Copy)]
pub struct BuiltIn {
    /// What requests call it.
    pub id: &'static str,
    /// What it is, in a few words that users read.
    pub description: &'static str,
    /// A GGUF file.
    pub gguf: &'static [u8],
}

impl std::fmt::Debug for BuiltIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuiltIn")
            .field("id", &self.id)
            .field("bytes", &self.gguf.len())
            .finish_non_exhaustive()
    }
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
    /// The backend that was asked for cannot run here.
    #[error("the backend `{name}` cannot run here: {reason}; leave `backend` out, and Perch chooses")]
    Unavailable {
        /// What was asked for.
        name: &'static str,
        /// What is missing.
        reason: String,
    },
}

/// Starts engines. The composition root implements it with the backends that it was built with.
pub trait Loader: Send + Sync + 'static {
    /// What the model would take, and where.
    fn needs(&self, job: &LoadJob) -> Needs {
        Needs::on_cpu(job)
    }

    /// The model that this build has within itself.
    fn built_in(&self) -> Option<BuiltIn> {
        None
    }

    /// Loads the model and starts its engine.
    fn load(&self, job: LoadJob) -> BoxFuture<'static, Result<EngineHandle, LoadError>>;
}

/// Bytes that a full step computes in: activations of all its tokens, and a row of logits for each sequence, in 32 bits.
fn scratch(spec: &ModelSpec, engine: &EngineConfig) -> u64 {
    let widest = |mlp: &Mlp| mlp.up.rows;
    let layer = |layer: &Layer| {
        let Mixer::Attention(attention) = &layer.mixer else { return 0 };
        let heads = (attention.heads + 2 * attention.kv_heads) * attention.head_dim;
        let inner = match &layer.ffn {
            Ffn::Dense(mlp) => widest(mlp),
            Ffn::Moe(moe) => {
                let routed = moe.experts.iter().map(widest).max().unwrap_or_default() * moe.top_k;
                routed + moe.shared.as_ref().map_or(0, widest)
            }
            _ => 0,
        };
        // Gate, up and their product; the input of the projections again in 8 bits.
        heads + 3 * inner
    };
    let layers = spec.layers.iter().map(layer).max().unwrap_or_default();
    let token = 4 * (4 * spec.hidden_size + layers) as u64;
    let rows = 4 * spec.vocab_size as u64;
    let tokens = token.saturating_mul(engine.max_batch_tokens as u64);
    // The backend's rows, and the sampler's copy of one.
    tokens.saturating_add(rows.saturating_mul(engine.max_sequences as u64 + 1))
}
