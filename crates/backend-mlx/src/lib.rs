//! Runs a `ModelSpec` on MLX: on a Mac's GPU, and for tests on MLX's CPU library. Without the feature `mlx` the crate
//! is empty.
//!
//! `MlxBackend` is the whole of it to the engine. MLX binds arrays that are not yet computed, and its streams, to the thread that
//! made them, and a thread that has used it leaves a thread of its own behind. So all models of the process load, compute and end on
//! one thread that stays (`thread.rs`), and a backend is only its door. `decoder.rs` is the one forward pass; each kind of layer has
//! a file of its own; `weights.rs` takes matrices to the device in the form that the file has them.

#![cfg(feature = "mlx")]

mod ahead;
mod attention;
mod decoder;
mod device;
mod draw;
mod kv;
mod linear;
mod load;
mod mlp;
mod model;
mod moe;
mod norm;
mod ops;
mod rope;
mod thread;
mod weights;

use std::sync::Arc;

use perch_engine::{Backend, BackendError, BlockId, Draw, Limits, Run, SeqId};
use perch_model::Checkpoint;

pub use device::{Gpu, gpu, memory};
pub use load::{DeviceKind, Float, LoadError, LoadOptions};

use crate::model::{Model, OwnedRun};
use crate::thread::Door;

/// One loaded model and the KV of its sequences, on the process' MLX thread.
pub struct MlxBackend {
    model: Door<Model>,
    limits: Limits,
}

impl MlxBackend {
    /// Loads the model of `checkpoint`.
    ///
    /// # Errors
    /// [`LoadError::Model`] when the checkpoint does not describe a model that Perch runs, [`LoadError::Unsupported`] when it is
    /// stored in a way that MLX does not run, [`LoadError::Device`] when MLX fails or has no room.
    pub fn load(checkpoint: Arc<Checkpoint>, options: LoadOptions) -> Result<Self, LoadError> {
        let model = Door::open(move || Model::load(&checkpoint, &options)).map_err(LoadError::Device)??;
        let limits =
            model.ask(|model| Ok(model.limits())).map_err(|error| LoadError::Device(error.to_string()))?;
        Ok(Self { model, limits })
    }
}

impl Backend for MlxBackend {
    fn limits(&self) -> Limits {
        self.limits.clone()
    }

    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError> {
        let prefix = prefix.to_vec();
        self.model.ask(move |model| model.kv(|kv| kv.open(seq, &prefix)))
    }

    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError> {
        self.model.ask(move |model| model.kv(|kv| kv.fork(from, to)))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError> {
        self.model.ask(move |model| {
            model.turn_back(seq);
            model.kv(|kv| kv.truncate(seq, len))
        })
    }

    fn close(&mut self, seq: SeqId) {
        self.model.tell(move |model| {
            model.turn_back(seq);
            model.kv(|kv| kv.close(seq));
        });
    }

    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError> {
        self.model.ask(move |model| model.kv(|kv| kv.save(seq, index, block)))
    }

    fn forget(&mut self, block: BlockId) {
        self.model.tell(move |model| model.kv(|kv| kv.forget(block)));
    }

    fn forward(&mut self, batch: &[Run<'_>]) -> Result<Vec<f32>, BackendError> {
        let runs: Vec<OwnedRun> = batch.iter().map(OwnedRun::new).collect();
        self.model.ask(move |model| model.forward(&runs))
    }

    fn draws(&self) -> bool {
        true
    }

    fn forward_drawn(&mut self, batch: &[Run<'_>], draws: &[Draw]) -> Result<Vec<Option<u32>>, BackendError> {
        let runs: Vec<OwnedRun> = batch.iter().map(OwnedRun::new).collect();
        let draws = draws.to_vec();
        self.model.ask(move |model| model.forward_drawn(&runs, &draws))
    }

    fn trim(&mut self) {
        self.model.tell(|model| model.kv(|kv| kv.trim()));
    }
}
