//! `Model`: a loaded decoder with the KV of its sequences, on the MLX thread.

use mlx_rs::error::{Exception, Result as MlxResult};
use mlx_rs::ops::concatenate;
use mlx_rs::transforms::{async_eval, eval};
use mlx_rs::{Array, Stream, with_stream};
use perch_engine::batch::{Batch, Bounds};
use perch_engine::kv::{KvCache, KvOps};
use perch_engine::{BackendError, Draw, Limits, Run, SeqId, Wanted};
use perch_model::Checkpoint;

use crate::ahead::{Ahead, Row};
use crate::attention::Pass;
use crate::decoder::{Decoder, indices};
use crate::draw::draw;
use crate::kv::{ArrayKv, BLOCK_TOKENS, Shape};
use crate::load::{self, LoadError, LoadOptions};
use crate::rope;

/// A loaded model.
pub(crate) struct Model {
    decoder: Decoder,
    kv: KvCache<ArrayKv>,
    bounds: Bounds,
    stream: Stream,
    ahead: Option<Ahead>,
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
        Ok(Self { decoder, kv: KvCache::new(shape, BLOCK_TOKENS), bounds, stream, ahead: None })
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

    /// Ends what is on its way for `seq`, which is about to be cut or closed.
    pub(crate) fn turn_back(&mut self, seq: SeqId) {
        if let Some(ahead) = &mut self.ahead {
            ahead.forget(seq);
        }
    }

    /// See [`perch_engine::Backend::forward`].
    pub(crate) fn forward(&mut self, runs: &[OwnedRun]) -> Result<Vec<f32>, BackendError> {
        let runs: Vec<Run<'_>> = runs.iter().map(OwnedRun::borrow).collect();
        let batch = Batch::new(&runs, self.bounds, &self.kv)?;
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        self.ahead = None;
        let stream = self.stream.clone();
        with_stream(&stream, || {
            self.kv.reserve(&runs)?;
            let result = self.logits(&batch);
            match result {
                Ok(_) => self.kv.commit(&runs),
                Err(_) => self.kv.roll_back(&runs),
            }
            result.map_err(fatal)
        })
    }

    fn logits(&mut self, batch: &Batch) -> MlxResult<Vec<f32>> {
        let logits = self.describe(batch, indices(&batch.tokens))?;
        eval(self.written(batch).chain(&logits))?;
        logits.map_or_else(|| Ok(Vec::new()), |logits| read(&logits))
    }

    /// See [`perch_engine::Backend::forward_drawn`].
    pub(crate) fn forward_drawn(
        &mut self,
        runs: &[OwnedRun],
        draws: &[Draw],
    ) -> Result<Vec<Option<u32>>, BackendError> {
        let runs: Vec<Run<'_>> = runs.iter().map(OwnedRun::borrow).collect();
        let batch = Batch::new(&runs, self.bounds, &self.kv)?;
        let last = runs.iter().filter(|run| run.wanted == Wanted::Last).count();
        if last != draws.len() || runs.iter().any(|run| run.wanted == Wanted::All) {
            return Err(BackendError::Invalid("a run has no draw, or a draw has no run".to_owned()));
        }
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let stream = self.stream.clone();
        with_stream(&stream, || {
            let tokens = self.draw(&runs, draws)?;
            if draws.is_empty() {
                // Chunks of prompts: the engine is not to get further ahead of the device than a pass.
                eval(self.written(&batch)).map_err(fatal)?;
                return Ok(Vec::new());
            }
            self.ahead = self.go_ahead(&runs, draws, &tokens);
            let drawn: Vec<i32> = read(&tokens).map_err(fatal)?;
            let drawn: Vec<Option<u32>> = drawn.into_iter().map(|token| u32::try_from(token).ok()).collect();
            if let Some(ahead) = &mut self.ahead {
                ahead.runs(&drawn);
            }
            Ok(drawn)
        })
    }

    /// Begins to compute what has not been computed ahead, and counts all runs in. Returns the drawn tokens.
    fn draw(&mut self, runs: &[Run<'_>], draws: &[Draw]) -> Result<Array, BackendError> {
        let ahead = self.ahead.take();
        let begun = ahead.as_ref().map_or(0, |ahead| ahead.tokens.dim(0) as u32);
        let (mut fresh, mut fresh_draws) = (Vec::new(), Vec::new());
        // Where each run's token stands: among those drawn ahead, or after them.
        let mut places = Vec::new();
        let mut draws = draws.iter();
        for run in runs {
            let draw = if run.wanted == Wanted::Last { draws.next() } else { None };
            if let Some(row) = ahead.as_ref().and_then(|ahead| ahead.row(run, draw)) {
                places.push(row as u32);
                continue;
            }
            fresh.push(*run);
            if let Some(draw) = draw {
                places.push(begun + fresh_draws.len() as u32);
                fresh_draws.push(*draw);
            }
        }
        let drawn = if fresh.is_empty() { None } else { Some(self.begin(&fresh, &fresh_draws)?) };
        self.kv.commit(runs);
        let parts: Vec<&Array> = ahead.iter().map(|ahead| &ahead.tokens).chain(&drawn).collect();
        let in_order = places.iter().copied().eq(0..begun + fresh_draws.len() as u32);
        match &parts[..] {
            [tokens] if in_order => Ok((*tokens).clone()),
            _ => concatenate(&parts, 0).and_then(|all| all.take_axis(indices(&places), 0)).map_err(fatal),
        }
    }

    /// Begins the pass over `runs`; returns the tokens drawn, `[draws]`.
    fn begin(&mut self, runs: &[Run<'_>], draws: &[Draw]) -> Result<Array, BackendError> {
        let batch = Batch::new(runs, self.bounds, &self.kv)?;
        self.kv.reserve(runs)?;
        let begun = self.draw_after(&batch, indices(&batch.tokens), draws);
        if begun.is_err() {
            self.kv.roll_back(runs);
        }
        begun.map_err(fatal)
    }

    /// Begins the pass that runs the tokens just drawn, where every sequence goes on for sure. What goes wrong here goes
    /// wrong again, and is told, when its turn comes.
    fn go_ahead(&mut self, runs: &[Run<'_>], draws: &[Draw], tokens: &Array) -> Option<Ahead> {
        if draws.len() != runs.len() {
            return None; // Some prompt is not whole yet.
        }
        let draws: Vec<Draw> = draws
            .iter()
            .map(|draw| Some(Draw { at: draw.then?, then: None, ..*draw }))
            .collect::<Option<_>>()?;
        // The tokens are on the device; these stand for them.
        let next = |run: &Run<'_>| Run {
            seq: run.seq,
            tokens: &[0],
            position: run.position + run.tokens.len(),
            wanted: Wanted::Last,
        };
        let next: Vec<Run<'_>> = runs.iter().map(next).collect();
        let batch = Batch::new(&next, self.bounds, &self.kv).ok()?;
        self.kv.reserve(&next).ok()?;
        let tokens = self.draw_after(&batch, tokens.clone(), &draws);
        // Not yet part of the sequences.
        self.kv.roll_back(&next);
        let row = |(run, draw): (&Run<'_>, &Draw)| Row {
            seq: run.seq,
            position: run.position,
            token: None,
            draw: *draw,
        };
        Some(Ahead::new(next.iter().zip(&draws).map(row).collect(), tokens.ok()?))
    }

    fn draw_after(&mut self, batch: &Batch, tokens: Array, draws: &[Draw]) -> MlxResult<Array> {
        let drawn = match self.describe(batch, tokens)? {
            Some(logits) if !draws.is_empty() => draw(&logits, draws)?,
            _ => Array::from_slice(&[] as &[i32], &[0]),
        };
        async_eval(self.written(batch).chain([&drawn]))?;
        Ok(drawn)
    }

    /// Describes the pass over a batch whose tokens are `tokens`.
    fn describe(&mut self, batch: &Batch, tokens: Array) -> MlxResult<Option<Array>> {
        let positions = rope::positions(batch.positions());
        let mut pass = Pass { batch, tokens, positions, ropes: &self.decoder.ropes, kv: &mut self.kv };
        self.decoder.forward(&mut pass)
    }

    /// The KV that a batch has written, of every layer: computed with it, so that no description of a pass outlives it.
    fn written(&self, batch: &Batch) -> impl Iterator<Item = &Array> {
        let kv = batch.spans.iter().filter_map(|span| self.kv.get(span.seq).ok());
        kv.flat_map(ArrayKv::arrays).collect::<Vec<_>>().into_iter()
    }
}

fn read<T: mlx_rs::ArrayElement + Clone>(array: &Array) -> MlxResult<Vec<T>> {
    array.to_vec_exact::<T>().map_err(|error| Exception::custom(error.to_string()))
}

fn fatal(error: Exception) -> BackendError {
    BackendError::Fatal(error.what().to_owned())
}
