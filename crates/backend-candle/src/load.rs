//! From a checkpoint and its spec to a [`Decoder`]: resolves every weight and brings it to the device.
//!
//! On the CPU matrices stay in the mapped file, whatever their type; norms, biases and sinks, a few kB a layer, become
//! `f32`. Tied weights are loaded once.

use std::sync::Arc;

use perch_model::{
    self as model, Activation, Checkpoint, ModelError, ModelSpec, Quantize, SpecOptions, Weight,
};
use thiserror::Error;

use crate::attention::{Attention, Heads};
use crate::cpu::Cpu;
use crate::cpu::norm::NormWeights;
use crate::cpu::pool::Pool;
use crate::cpu::simd::Width;
use crate::decoder::{Decoder, Embedding, Ffn, Head, Layer, Mixer};
use crate::device::Device;
use crate::linear::{Linear, Weights};
use crate::metal;
use crate::mlp::Mlp;
use crate::moe::Moe;
use crate::norm::Norm;

/// Which kernels run a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeviceKind {
    /// Our own CPU kernels.
    #[default]
    Cpu,
    /// Candle's CPU kernels: slow, and the code that Metal runs. An oracle for the others.
    CandleCpu,
    /// The Mac's graphics processor, with candle's kernels. [`LoadError::NoMetal`] where there is none.
    Metal,
}

impl DeviceKind {
    /// Whether a model can be loaded for it on this machine.
    ///
    /// # Errors
    /// [`LoadError::NoMetal`] says what is missing.
    pub fn check(self) -> Result<(), LoadError> {
        match self {
            Self::Cpu | Self::CandleCpu => Ok(()),
            Self::Metal => metal::check(),
        }
    }
}

/// Type of keys and values in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvDtype {
    /// Half the memory, and half the time to read it; what one rounds away is below what quantised weights cost.
    #[default]
    F16,
    /// Exact.
    F32,
}

/// Told `(bytes loaded, bytes in all)` while a model loads.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How to load a model.
#[derive(Clone)]
pub struct LoadOptions {
    /// Round float matrices to this type; `None` uses them as they are.
    pub quantize: Option<Quantize>,
    /// Context in tokens; `None` takes all the model offers.
    pub context_length: Option<usize>,
    /// Which kernels.
    pub device: DeviceKind,
    /// Type of the KV cache.
    pub kv_dtype: KvDtype,
    /// The process' CPU threads.
    pub pool: Arc<Pool>,
    /// Called for every weight.
    pub progress: Option<Progress>,
}

impl LoadOptions {
    /// The defaults, on `pool`.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self {
            quantize: None,
            context_length: None,
            device: DeviceKind::default(),
            kv_dtype: KvDtype::default(),
            pool,
            progress: None,
        }
    }
}

impl std::fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { quantize, context_length, device, kv_dtype, .. } = self;
        write!(f, "LoadOptions({quantize:?}, context {context_length:?}, {device:?}, KV {kv_dtype:?})")
    }
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The checkpoint is damaged, or of a kind that is not run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The spec asks for something this backend does not run.
    #[error("{0} is not supported by this backend")]
    Unsupported(String),
    /// There is no Metal that candle can use; the text says why.
    #[error("this model was to run on Metal, and {0}; run it on the CPU instead")]
    NoMetal(&'static str),
    /// The device failed, or has no room.
    #[error("the device could not take the model: {0}")]
    Device(#[from] candle_core::Error),
}

/// Loads `checkpoint`: its spec, and the decoder that runs it.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
) -> Result<(ModelSpec, Decoder), LoadError> {
    let spec = checkpoint.spec(&SpecOptions { context: options.context_length })?;
    let device = match options.device {
        DeviceKind::Cpu => Device::Cpu(Cpu { pool: Arc::clone(&options.pool), width: Width::detect() }),
        DeviceKind::CandleCpu => Device::Candle(candle_core::Device::Cpu),
        DeviceKind::Metal => Device::Candle(metal::open()?),
    };
    checkpoint.prefetch();
    let total = checkpoint.weights_bytes();
    let mut loader = Loader { checkpoint, options, spec: &spec, device: &device, total, done: 0 };
    let (embedding, head) = loader.ends()?;
    let layers = (0..spec.layers.len()).map(|index| loader.layer(index)).collect::<Result<Vec<_>, _>>()?;
    let final_norm = loader.norm(&spec.final_norm)?;
    let (hidden_size, ropes) = (spec.hidden_size, spec.ropes.clone());
    let decoder = Decoder { device, hidden_size, embedding, ropes, layers, final_norm, head };
    Ok((spec, decoder))
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a LoadOptions,
    spec: &'a ModelSpec,
    device: &'a Device,
    total: u64,
    done: u64,
}

impl Loader<'_> {
    fn tensor(&mut self, weight: &Weight, quantize: Option<Quantize>) -> Result<model::Tensor, LoadError> {
        let tensor = self.checkpoint.load(weight, quantize)?;
        self.done = (self.done + tensor.bytes().len() as u64).min(self.total);
        if let Some(progress) = &self.options.progress {
            progress(self.done, self.total);
        }
        Ok(tensor)
    }

    fn matrix(&mut self, weight: &Weight, quantize: Option<Quantize>) -> Result<Weights, LoadError> {
        let tensor = self.tensor(weight, quantize)?;
        Ok(Weights::new(&tensor, self.device)?)
    }

    /// All values in `f32`, `offset` added.
    fn vector(&mut self, weight: &Weight, offset: f32) -> Result<Vec<f32>, LoadError> {
        let mut values = self.tensor(weight, None)?.values();
        values.iter_mut().for_each(|value| *value += offset);
        Ok(values)
    }

    fn linear(&mut self, linear: &model::Linear, quantize: Option<Quantize>) -> Result<Linear, LoadError> {
        let weight = self.matrix(&linear.weight, quantize)?;
        self.with_bias(weight, linear)
    }

    fn with_bias(&mut self, weight: Weights, linear: &model::Linear) -> Result<Linear, LoadError> {
        let bias = linear.bias.as_ref().map(|bias| self.vector(bias, 0.0)).transpose()?;
        Ok(Linear::new(weight, bias, linear.rows))
    }

    fn norm(&mut self, norm: &model::Norm) -> Result<Norm, LoadError> {
        let weight = self.vector(&norm.weight, norm.offset)?;
        let bias = norm.bias.as_ref().map(|bias| self.vector(bias, 0.0)).transpose()?;
        let weights = NormWeights { kind: norm.kind, weight, bias, eps: norm.eps };
        Ok(Norm::new(weights, self.device)?)
    }

    fn maybe_norm(&mut self, norm: &Option<model::Norm>) -> Result<Option<Norm>, LoadError> {
        norm.as_ref().map(|norm| self.norm(norm)).transpose()
    }

    /// Embedding and head, which may be one matrix.
    fn ends(&mut self) -> Result<(Embedding, Head), LoadError> {
        let (embedding, head) = (&self.spec.embedding, &self.spec.head);
        let quantize = self.options.quantize.map(Quantize::for_embedding);
        let tokens = self.matrix(&embedding.tokens, quantize)?;
        let tied = head.linear.weight == embedding.tokens;
        let weight = if tied { tokens.clone() } else { self.matrix(&head.linear.weight, quantize)? };
        let linear = self.with_bias(weight, &head.linear)?;
        let positions = embedding.positions.as_ref().map(|table| self.matrix(table, None)).transpose()?;
        let embedding = Embedding { tokens, positions, scale: embedding.scale };
        Ok((embedding, Head { linear, scale: head.scale, softcap: head.softcap }))
    }

    fn layer(&mut self, index: usize) -> Result<Layer, LoadError> {
        let layer = &self.spec.layers[index];
        Ok(Layer {
            pre_mixer: self.maybe_norm(&layer.pre_mixer)?,
            mixer: match &layer.mixer {
                model::Mixer::Attention(attention) => Mixer::Attention(self.attention(attention, index)?),
                other => return Err(LoadError::Unsupported(format!("the mixer {other:?}"))),
            },
            post_mixer: self.maybe_norm(&layer.post_mixer)?,
            pre_ffn: self.maybe_norm(&layer.pre_ffn)?,
            ffn: match &layer.ffn {
                model::Ffn::Dense(mlp) => Ffn::Dense(self.mlp(mlp, index)?),
                model::Ffn::Moe(moe) => Ffn::Moe(self.moe(moe, index)?),
                other => return Err(LoadError::Unsupported(format!("the feed-forward part {other:?}"))),
            },
            post_ffn: self.maybe_norm(&layer.post_ffn)?,
            residual_scale: layer.residual_scale,
        })
    }

    fn attention(&mut self, spec: &model::Attention, index: usize) -> Result<Attention, LoadError> {
        let quantize = self.options.quantize;
        let model::Attention { heads, kv_heads, head_dim, window, scale, softcap, .. } = *spec;
        Ok(Attention {
            heads: Heads { heads, kv_heads, head_dim, window, scale, softcap },
            q: self.linear(&spec.q, quantize)?,
            k: self.linear(&spec.k, quantize)?,
            v: self.linear(&spec.v, self.sensitive(index))?,
            o: self.linear(&spec.o, quantize)?,
            q_norm: self.maybe_norm(&spec.q_norm)?,
            k_norm: self.maybe_norm(&spec.k_norm)?,
            rope: spec.rope,
            sinks: spec.sinks.as_ref().map(|sinks| self.vector(sinks, 0.0)).transpose()?,
        })
    }

    /// What value and down projections of a layer become.
    fn sensitive(&self, layer: usize) -> Option<Quantize> {
        self.options.quantize.map(|quantize| quantize.for_value_or_down(layer, self.spec.layers.len()))
    }

    fn mlp(&mut self, spec: &model::Mlp, index: usize) -> Result<Mlp, LoadError> {
        let quantize = self.options.quantize;
        match (spec.activation, &spec.gate) {
            (Activation::Silu | Activation::GeluTanh | Activation::Gelu, _) => {}
            (Activation::ClampedSwiglu { .. }, Some(_)) => {}
            (other, _) => return Err(LoadError::Unsupported(format!("the activation {other:?}"))),
        }
        Ok(Mlp {
            gate: spec.gate.as_ref().map(|gate| self.linear(gate, quantize)).transpose()?,
            up: self.linear(&spec.up, quantize)?,
            down: self.linear(&spec.down, self.sensitive(index))?,
            activation: spec.activation,
        })
    }

    fn moe(&mut self, spec: &model::Moe, index: usize) -> Result<Moe, LoadError> {
        if !matches!(spec.scoring, model::Scoring::Softmax | model::Scoring::SoftmaxNormalised) {
            return Err(LoadError::Unsupported(format!("the router's scoring {:?}", spec.scoring)));
        }
        let experts = spec.experts.iter().map(|expert| self.mlp(expert, index));
        Ok(Moe {
            experts: experts.collect::<Result<Vec<_>, _>>()?,
            router: self.linear(&spec.router, None)?,
            top_k: spec.top_k,
            scoring: spec.scoring,
            scale: spec.scale,
            shared: spec.shared.as_ref().map(|shared| self.mlp(shared, index)).transpose()?,
        })
    }
}
