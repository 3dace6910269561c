//! `Model`: a loaded decoder with the KV of its sequences, on the MLX thread.

use mlx_rs::transforms::eval;
use mlx_rs::{Array, Stream, with_stream};
use perch_engine::batch::{Batch, Bounds};
use perch_engine::kv::{KvCache, KvOps};
use perch_engine::{BackendError, Limits, Run, SeqId, Wanted};
use perch_model::Checkpoint;

use crate::attention::Pass;
use crate::decoder::Decoder;
use crate::kv::{ArrayKv, BLOCK_TOKENS, Shape};
use crate::load::{self, LoadError, LoadOptions};
use crate::rope;

/// A loaded model.
pub(crate) struct Model {
    decoder: Decoder,
    kv: KvCache<ArrayKv>,
    bounds: Bounds,
    stream: Stream,
}

/// A [`Run`] that can go to another thread.
pub(crate) struct OwnedRun {
    seq: SeqId,
    tokens: Vec<u32>,
    position: usize,
    wanted: Wanted,
}

impl OwnedRun {
    pub(crate) fn new(run: &Run<'_>) -> Self {
        Self { seq: run.seq, tokens: run.tokens.to_vec(), position: run.position, wanted: run.wanted }
    }

    fn borrow(&self) -> Run<'_> {
        Run { seq: self.seq, tokens: &self.tokens, position: self.position, wanted: self.wanted }
    }
}

impl Model {
    /// Loads the model of `checkpoint`.
    pub(crate) fn load(checkpoint: &Checkpoint, options: &LoadOptions) -> Result<Self, LoadError> {
        let stream = load::stream(options.device)?;
        let loaded = with_stream(&stream, || load::load(checkpoint, options));
        let (spec, decoder) = loaded?;
        let layers = spec.layers.iter().map(|layer| {
            let perch_model::Mixer::Attention(attention) = &layer.mixer else { return (1, 0) };
            (attention.kv_heads, attention.head_dim)
        });
        let shape = Shape { dtype: decoder.dtype, layers: layers.collect() };
        let bounds = Bounds { vocab_size: spec.vocab_size, context_length: spec.context_length };
        Ok(Self { decoder, kv: KvCache::new(shape, BLOCK_TOKENS), bounds, stream })
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            vocab_size: self.bounds.vocab_size,
            context_length: self.bounds.context_length,
            block_tokens: BLOCK_TOKENS,
            kv_bytes_per_token: self.kv.context().bytes_per_token(),
            shares_blocks: false,
        }
    }

    /// Changes the sequences' KV between passes.
    pub(crate) fn kv<R>(&mut self, change: impl FnOnce(&mut dyn KvOps) -> R) -> R {
        let stream = self.stream.clone();
        with_stream(&stream, || change(&mut self.kv))
    }

    /// See [`perch_engine::Backend::forward`].
    pub(crate) fn forward(&mut self, runs: &[OwnedRun]) -> Result<Vec<f32>, BackendError> {
        let runs: Vec<Run<'_>> = runs.iter().map(OwnedRun::borrow).collect();
        let batch = Batch::new(&runs, self.bounds, &self.kv)?;
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let stream = self.stream.clone();
        with_stream(&stream, || {
            self.kv.reserve(&runs)?;
            let result = self.compute(&batch);
            match result {
                Ok(_) => self.kv.commit(&runs),
                Err(_) => self.kv.roll_back(&runs),
            }
            result.map_err(|error| BackendError::Fatal(error.what().to_owned()))
        })
    }

    fn compute(&mut self, batch: &Batch) -> mlx_rs::error::Result<Vec<f32>> {
        let positions = rope::positions(batch.positions());
        let mut pass = Pass { batch, positions, ropes: &self.decoder.ropes, kv: &mut self.kv };
        let logits = self.decoder.forward(&mut pass)?;
        // The KV of every layer, so that no description of this pass outlives it.
        let mut wanted: Vec<&Array> = Vec::new();
        for span in &batch.spans {
            wanted.extend(self.kv.get(span.seq).into_iter().flat_map(ArrayKv::arrays));
        }
        wanted.extend(&logits);
        eval(wanted)?;
        match logits {
            Some(logits) => logits
                .to_vec_exact::<f32>()
                .map_err(|error| mlx_rs::error::Exception::custom(error.to_string())),
            None => Ok(Vec::new()),
        }
    }
}
