//! Runs a [`perch_model::ModelSpec`] on the CPU with our own kernels and, on a Mac, on Metal through candle.
//!
//! [`CandleBackend`] is the whole of it to the engine. `decoder.rs` is the one forward pass; each kind of layer has a
//! file of its own (`attention`, `moe`, `norm`, …) that says what it does on either device; `cpu/` holds the kernels.

mod attention;
mod contiguous;
pub mod cpu;
mod decoder;
mod device;
mod linear;
mod load;
mod metal;
mod mlp;
mod moe;
mod norm;
mod rope;

use perch_engine::{Backend, BackendError, BlockId, Limits, Run, SeqId};
use perch_model::{Checkpoint, Mixer, ModelSpec};

pub use cpu::pool::Pool;
pub use load::{DeviceKind, KvDtype, LoadError, LoadOptions, Progress};

use crate::attention::StepKv;
use crate::contiguous::{ContiguousKv, Shape};
use crate::cpu::pages::{Layout, PAGE_TOKENS, PagePool, PageTable, PagedKv};
use crate::decoder::Decoder;
use crate::device::Device;
use perch_engine::batch::{Batch, Bounds};
use perch_engine::kv::{KvCache, KvOps};

/// One loaded model and the KV of its sequences.
pub struct CandleBackend {
    decoder: Decoder,
    kv: Kv,
    bounds: Bounds,
    kv_bytes_per_token: usize,
}

/// The KV, as the device's kernels want it.
enum Kv {
    Paged(KvCache<PagedKv>),
    Contiguous(KvCache<ContiguousKv>),
}

impl Kv {
    fn new(spec: &ModelSpec, device: &Device, dtype: KvDtype) -> Self {
        match device {
            Device::Cpu(_) => {
                let element = if dtype == KvDtype::F16 { 2 } else { 4 };
                Kv::Paged(KvCache::new(PagePool::new(Layout::new(spec, element)), PAGE_TOKENS))
            }
            Device::Candle(device) => {
                let heads = spec.layers.iter().map(|layer| match &layer.mixer {
                    Mixer::Attention(a) => (a.kv_heads, a.head_dim),
                    other => (1, other.kv_width().0),
                });
                let shape = Shape {
                    device: device.clone(),
                    dtype: if dtype == KvDtype::F16 {
                        candle_core::DType::F16
                    } else {
                        candle_core::DType::F32
                    },
                    layers: heads.collect(),
                    block_tokens: PAGE_TOKENS,
                };
                Kv::Contiguous(KvCache::new(shape, PAGE_TOKENS))
            }
        }
    }

    fn ops(&self) -> &dyn KvOps {
        match self {
            Kv::Paged(kv) => kv,
            Kv::Contiguous(kv) => kv,
        }
    }

    fn ops_mut(&mut self) -> &mut dyn KvOps {
        match self {
            Kv::Paged(kv) => kv,
            Kv::Contiguous(kv) => kv,
        }
    }

    fn bytes_per_token(&self) -> usize {
        match self {
            Kv::Paged(kv) => kv.context().layout().bytes.div_ceil(PAGE_TOKENS),
            Kv::Contiguous(kv) => {
                let Shape { dtype, layers, .. } = kv.context();
                layers.iter().map(|(heads, width)| 2 * heads * width * dtype.size_in_bytes()).sum()
            }
        }
    }
}

impl CandleBackend {
    /// Loads the model of `checkpoint`.
    ///
    /// # Errors
    /// [`LoadError::Model`] when the checkpoint does not describe a model that Perch runs, with what is wrong;
    /// [`LoadError::Device`] when the device has no room for it.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, LoadError> {
        let (spec, decoder) = load::load(checkpoint, options)?;
        let kv = Kv::new(&spec, &decoder.device, options.kv_dtype);
        let bounds = Bounds { vocab_size: spec.vocab_size, context_length: spec.context_length };
        let kv_bytes_per_token = kv.bytes_per_token();
        Ok(Self { decoder, kv, bounds, kv_bytes_per_token })
    }

    fn run(&self, batch: &Batch) -> Result<Vec<f32>, BackendError> {
        let kv = match &self.kv {
            Kv::Paged(kv) => StepKv::Paged(PageTable::new(kv, batch.spans.iter().map(|span| span.seq))?),
            Kv::Contiguous(kv) => StepKv::Contiguous(kv),
        };
        self.decoder.forward(batch, kv).map_err(|error| BackendError::Fatal(error.to_string()))
    }
}

impl Backend for CandleBackend {
    fn limits(&self) -> Limits {
        Limits {
            vocab_size: self.bounds.vocab_size,
            context_length: self.bounds.context_length,
            block_tokens: PAGE_TOKENS,
            kv_bytes_per_token: self.kv_bytes_per_token,
            shares_blocks: matches!(self.kv, Kv::Paged(_)),
        }
    }

    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError> {
        self.kv.ops_mut().open(seq, prefix)
    }

    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError> {
        self.kv.ops_mut().fork(from, to)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError> {
        self.kv.ops_mut().truncate(seq, len)
    }

    fn close(&mut self, seq: SeqId) {
        self.kv.ops_mut().close(seq);
    }

    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError> {
        self.kv.ops_mut().save(seq, index, block)
    }

    fn forget(&mut self, block: BlockId) {
        self.kv.ops_mut().forget(block);
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Vec<f32>, BackendError> {
        let batch = Batch::new(runs, self.bounds, self.kv.ops())?;
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        self.kv.ops_mut().reserve(runs)?;
        let result = self.run(&batch);
        match result {
            Ok(_) => self.kv.ops_mut().commit(runs),
            Err(_) => self.kv.ops_mut().roll_back(runs),
        }
        result
    }

    fn trim(&mut self) {
        self.kv.ops_mut().trim();
    }
}
