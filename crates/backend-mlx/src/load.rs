//! From a checkpoint and its spec to a [`Decoder`]: resolves every weight and takes it to the device.

use mlx_rs::{Array, Dtype, Stream};
use perch_model::{
    self as model, Activation, Checkpoint, ModelError, ModelSpec, Quantize, SpecOptions, Weight,
};
use thiserror::Error;

use crate::attention::Attention;
use crate::decoder::{Decoder, Ffn, Head, Layer};
use crate::device;
use crate::linear::{Linear, Weights};
use crate::mlp::Mlp;
use crate::moe::{Moe, Stack};
use crate::norm::Norm;
use crate::ops::dim;
use crate::rope::Rope;
use crate::weights::{Host, host, upload};

/// Which of MLX's devices runs a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The GPU.
    #[default]
    Gpu,
    /// MLX's CPU library: for tests.
    Cpu,
}

/// Type of activations and of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Float {
    F32,
    F16,
    BF16,
}

/// How to load a model.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Round float matrices: Q8_0 to 8 bits, Q6_K to 6, the others to 4, in groups of 64. `None` uses them as they are.
    pub quantize: Option<Quantize>,
    /// Context in tokens; `None` takes all the model offers.
    pub context_length: Option<usize>,
    /// Where it runs.
    pub device: DeviceKind,
    /// Type of activations; `None` takes that of the checkpoint's norms, bf16 for f32, and f32 on the CPU.
    pub float: Option<Float>,
    /// Bytes that all of MLX's arrays may take; `None` leaves MLX's own limit.
    pub memory_limit: Option<u64>,
}

/// Why a model could not be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The checkpoint is damaged, or of a kind that is not run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The spec asks for something this backend does not run, or the file holds it in a form that MLX has not.
    #[error("{0} is not supported by the MLX backend; the candle backend may run it")]
    Unsupported(String),
    /// MLX failed, or has no room.
    #[error("MLX could not take the model: {0}")]
    Device(String),
}

impl From<mlx_rs::error::Exception> for LoadError {
    fn from(error: mlx_rs::error::Exception) -> Self {
        Self::Device(error.what().to_owned())
    }
}

/// The stream of this thread on `device`.
pub(crate) fn stream(device: DeviceKind) -> Result<Stream, LoadError> {
    match device {
        DeviceKind::Cpu => Ok(Stream::cpu()),
        DeviceKind::Gpu if cfg!(target_os = "macos") => Ok(Stream::gpu()),
        DeviceKind::Gpu => Err(LoadError::Device("there is no GPU that MLX can use".to_owned())),
    }
}

/// Loads `checkpoint`: its spec, and the decoder that runs it.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
) -> Result<(ModelSpec, Decoder), LoadError> {
    let spec = checkpoint.spec(&SpecOptions { context: options.context_length })?;
    if let Some(bytes) = options.memory_limit {
        device::limit(bytes);
    }
    checkpoint.prefetch();
    let dtype = dtype(checkpoint, &spec, options)?;
    let loader = Loader { checkpoint, options, spec: &spec, dtype };
    let (tokens, head) = loader.ends()?;
    let positions = spec.embedding.positions.as_ref().map(|table| loader.matrix(table, None)).transpose()?;
    let layers = (0..spec.layers.len()).map(|index| loader.layer(index)).collect::<Result<Vec<_>, _>>()?;
    let decoder = Decoder {
        dtype,
        tokens,
        positions,
        embedding_scale: spec.embedding.scale,
        ropes: spec.ropes.iter().map(Rope::new).collect(),
        layers,
        final_norm: loader.norm(&spec.final_norm)?,
        head,
    };
    Ok((spec, decoder))
}

/// The type that the model computes in.
fn dtype(checkpoint: &Checkpoint, spec: &ModelSpec, options: &LoadOptions) -> Result<Dtype, LoadError> {
    Ok(match options.float {
        Some(Float::F32) => Dtype::Float32,
        Some(Float::F16) => Dtype::Float16,
        Some(Float::BF16) => Dtype::Bfloat16,
        // MLX's CPU kernels are exact in f32 alone, and no faster in 16 bits.
        None if options.device == DeviceKind::Cpu => Dtype::Float32,
        None => match checkpoint.load(&spec.final_norm.weight, None)?.dtype() {
            model::DType::F16 => Dtype::Float16,
            // What f32 was trained for may be too large for f16, as in Gemma; GGUF keeps norms in f32 whatever the matrices are.
            _ => Dtype::Bfloat16,
        },
    })
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a LoadOptions,
    spec: &'a ModelSpec,
    dtype: Dtype,
}

impl Loader<'_> {
    /// The matrix in a form that MLX runs.
    fn host(&self, weight: &Weight) -> Result<Host<'_>, LoadError> {
        if let Some(packed) = self.checkpoint.packed(weight)? {
            return Ok(Host::Packed(packed));
        }
        let tensor = self.checkpoint.load(weight, None)?;
        let dtype = tensor.dtype();
        host(tensor).ok_or_else(|| LoadError::Unsupported(format!("{dtype:?} of GGUF files")))
    }

    fn matrix(&self, weight: &Weight, quantize: Option<Quantize>) -> Result<Weights, LoadError> {
        Ok(upload(&[self.host(weight)?], false, self.dtype, quantize)?)
    }

    /// All values in f32, `offset` added.
    fn vector(&self, weight: &Weight, offset: f32) -> Result<Vec<f32>, LoadError> {
        let mut values = self.checkpoint.load(weight, None)?.values();
        values.iter_mut().for_each(|value| *value += offset);
        Ok(values)
    }

    /// The same on the device, in the model's type.
    fn floats(&self, weight: &Weight, offset: f32) -> Result<Array, LoadError> {
        let values = self.vector(weight, offset)?;
        let floats = Array::from_slice(&values, &[dim(values.len())]).as_dtype(self.dtype)?;
        floats.eval()?;
        Ok(floats)
    }

    fn maybe_floats(&self, weight: &Option<Weight>) -> Result<Option<Array>, LoadError> {
        weight.as_ref().map(|weight| self.floats(weight, 0.0)).transpose()
    }

    fn linear(&self, linear: &model::Linear, quantize: Option<Quantize>) -> Result<Linear, LoadError> {
        Ok(Linear { weight: self.matrix(&linear.weight, quantize)?, bias: self.maybe_floats(&linear.bias)? })
    }

    fn norm(&self, norm: &model::Norm) -> Result<Norm, LoadError> {
        let weight = self.floats(&norm.weight, norm.offset)?;
        Ok(Norm { kind: norm.kind, weight, bias: self.maybe_floats(&norm.bias)?, eps: norm.eps })
    }

    fn maybe_norm(&self, norm: &Option<model::Norm>) -> Result<Option<Norm>, LoadError> {
        norm.as_ref().map(|norm| self.norm(norm)).transpose()
    }

    /// Embedding and head, which may be one matrix.
    fn ends(&self) -> Result<(Weights, Head), LoadError> {
        let (embedding, head) = (&self.spec.embedding, &self.spec.head);
        let quantize = self.options.quantize.map(Quantize::for_embedding);
        let tokens = self.matrix(&embedding.tokens, quantize)?;
        let tied = head.linear.weight == embedding.tokens;
        let weight = if tied { tokens.clone() } else { self.matrix(&head.linear.weight, quantize)? };
        let linear = Linear { weight, bias: self.maybe_floats(&head.linear.bias)? };
        Ok((tokens, Head { linear, scale: head.scale, softcap: head.softcap }))
    }

    fn layer(&self, index: usize) -> Result<Layer, LoadError> {
        let layer = &self.spec.layers[index];
        Ok(Layer {
            pre_mixer: self.maybe_norm(&layer.pre_mixer)?,
            attention: match &layer.mixer {
                model::Mixer::Attention(attention) => self.attention(attention, index)?,
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

    fn attention(&self, spec: &model::Attention, index: usize) -> Result<Attention, LoadError> {
        let quantize = self.options.quantize;
        Ok(Attention {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            window: spec.window,
            scale: spec.scale,
            softcap: spec.softcap,
            q: self.linear(&spec.q, quantize)?,
            k: self.linear(&spec.k, quantize)?,
            v: self.linear(&spec.v, self.sensitive(index))?,
            o: self.linear(&spec.o, quantize)?,
            q_norm: self.maybe_norm(&spec.q_norm)?,
            k_norm: self.maybe_norm(&spec.k_norm)?,
            rope: spec.rope,
            sinks: self.maybe_floats(&spec.sinks)?,
        })
    }

    /// What value and down projections of a layer become.
    fn sensitive(&self, layer: usize) -> Option<Quantize> {
        self.options.quantize.map(|quantize| quantize.for_value_or_down(layer, self.spec.layers.len()))
    }

    fn mlp(&self, spec: &model::Mlp, index: usize) -> Result<Mlp, LoadError> {
        let quantize = self.options.quantize;
        Ok(Mlp {
            gate: spec.gate.as_ref().map(|gate| self.linear(gate, quantize)).transpose()?,
            up: self.linear(&spec.up, quantize)?,
            down: self.linear(&spec.down, self.sensitive(index))?,
            activation: runs(spec.activation, spec.gate.is_some())?,
        })
    }

    fn moe(&self, spec: &model::Moe, index: usize) -> Result<Moe, LoadError> {
        if !matches!(spec.scoring, model::Scoring::Softmax | model::Scoring::SoftmaxNormalised) {
            return Err(LoadError::Unsupported(format!("the router's scoring {:?}", spec.scoring)));
        }
        let [first, ..] = &spec.experts[..] else {
            return Err(LoadError::Unsupported("a mixture without experts".to_owned()));
        };
        let (quantize, sensitive) = (self.options.quantize, self.sensitive(index));
        let all = |of: fn(&model::Mlp) -> Option<&model::Linear>| {
            spec.experts.iter().filter_map(of).collect::<Vec<_>>()
        };
        let gates = all(|expert| expert.gate.as_ref());
        Ok(Moe {
            router: self.linear(&spec.router, None)?,
            gate: if gates.is_empty() { None } else { Some(self.stack(&gates, quantize)?) },
            up: self.stack(&all(|expert| Some(&expert.up)), quantize)?,
            down: self.stack(&all(|expert| Some(&expert.down)), sensitive)?,
            activation: runs(first.activation, first.gate.is_some())?,
            experts: spec.experts.len(),
            top_k: spec.top_k,
            scoring: spec.scoring,
            scale: spec.scale,
            shared: spec.shared.as_ref().map(|shared| self.mlp(shared, index)).transpose()?,
        })
    }

    /// One layer of all experts.
    fn stack(&self, experts: &[&model::Linear], quantize: Option<Quantize>) -> Result<Stack, LoadError> {
        let hosts = experts.iter().map(|expert| self.host(&expert.weight)).collect::<Result<Vec<_>, _>>()?;
        let weight = upload(&hosts, true, self.dtype, quantize)?;
        let biases =
            experts.iter().filter_map(|expert| expert.bias.as_ref()).map(|bias| self.vector(bias, 0.0));
        let biases = biases.collect::<Result<Vec<_>, _>>()?.concat();
        let bias = match biases.len() {
            0 => None,
            all => {
                let shape = [dim(experts.len()), dim(all / experts.len())];
                Some(Array::from_slice(&biases, &shape).as_dtype(self.dtype)?)
            }
        };
        Ok(Stack { weight, bias })
    }
}

/// The activation, if it is one that this backend has.
fn runs(activation: Activation, gated: bool) -> Result<Activation, LoadError> {
    match (activation, gated) {
        (Activation::Silu | Activation::GeluTanh | Activation::Gelu, _) => Ok(activation),
        (Activation::ClampedSwiglu { .. }, true) => Ok(activation),
        (other, _) => Err(LoadError::Unsupported(format!("the activation {other:?}"))),
    }
}
