//! `Sampler`: one choice's way from logits to tokens.
//!
//! Order: bias, penalties, constraint, temperature, top-k, top-p, min-p, draw. Penalties are Hugging Face's (repetition,
//! over prompt and output) and OpenAI's (presence and frequency, over the output); top-k, top-p and min-p cut as Hugging
//! Face's warpers do, each renormalising what the last one left.
//!
//! Invariants: the token depends on the logits, the parameters, the seed and the number of tokens drawn before, and on
//! nothing else. A token that the mask forbids, or whose logit is NaN or negative infinity, is never drawn.

mod logprobs;
mod select;
mod softmax;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(crate) use logprobs::Scores;
pub(crate) use select::Maxima;
use softmax::{Weights, exp};

use crate::{Draw, LogProbs, Sampling, TokenMask};

/// How many of the best tokens are tried first when top-p has to search the whole vocabulary.
const NUCLEUS_GUESS: usize = 64;
/// Colder than this is greedy: the quotients would leave the range of `f32`.
const COLDEST: f32 = 1e-5;

/// What all choices of an engine share: room to work in.
#[derive(Default)]
pub(crate) struct Workspace {
    pub(crate) maxima: Maxima,
    weights: Weights,
    best: Vec<(u32, f32)>,
    /// A copy of the row to draw from, where others need it unchanged.
    pub(crate) row: Vec<f32>,
    /// A copy of the row as the model gave it.
    raw: Vec<f32>,
}

/// Parameters and state of one choice.
pub(crate) struct Sampler {
    params: Arc<Sampling>,
    /// Advances by one draw for each token, and so depends on nothing but the seed and their number.
    rng: ChaCha8Rng,
    /// Prompt tokens, where the repetition penalty wants them; shared by all choices.
    prompt: Arc<HashSet<u32>>,
    /// How often each token was generated, where a penalty wants it.
    generated: HashMap<u32, u32>,
}

impl Sampler {
    /// The sampler of choice `choice`, whose seed is `seed + choice`.
    pub(crate) fn new(params: Arc<Sampling>, prompt: Arc<HashSet<u32>>, seed: u64, choice: usize) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(choice as u64));
        Self { params, rng, prompt, generated: HashMap::new() }
    }

    /// The prompt tokens that samplers with these parameters want to know.
    pub(crate) fn penalised_prompt(params: &Sampling, prompt: &[u32]) -> Arc<HashSet<u32>> {
        let wanted = params.repetition_penalty != 1.0;
        Arc::new(prompt.iter().copied().filter(|_| wanted).collect())
    }

    /// As [`Sampler::draw`], with the log-probabilities of the token and of the `logprobs` best, if wanted.
    pub(crate) fn draw_scored(
        &mut self,
        row: &mut [f32],
        mask: Option<&TokenMask>,
        logprobs: Option<usize>,
        space: &mut Workspace,
    ) -> Option<(u32, Option<LogProbs>)> {
        let Some(k) = logprobs else { return Some((self.draw(row, mask, space)?, None)) };
        let scores = Scores::new(&mut space.maxima, row, k)?;
        space.raw.clear();
        space.raw.extend_from_slice(row);
        let token = self.draw(row, mask, space)?;
        Some((token, Some(scores.chosen(space.raw[token as usize]))))
    }

    /// Draws the next token from `row`, which is changed. `None` when no token is left to draw.
    pub(crate) fn draw(
        &mut self,
        row: &mut [f32],
        mask: Option<&TokenMask>,
        space: &mut Workspace,
    ) -> Option<u32> {
        self.prepare(row, mask);
        let at = if self.is_greedy() { 0.0 } else { uniform(&mut self.rng) };
        let token = pick(&self.draw_of(at, None), row, space)?;
        if self.has_penalties() {
            *self.generated.entry(token).or_insert(0) += 1;
        }
        Some(token)
    }

    /// How a backend may draw the next token in place of [`Sampler::draw`], and the one after it unless this is the `last`.
    /// `None` where that depends on more than the logits. What was drawn so is to be told by [`Sampler::drawn`].
    pub(crate) fn as_draw(&self, last: bool) -> Option<Draw> {
        if self.has_penalties() || !self.params.logit_bias.is_empty() {
            return None;
        }
        let mut coming = self.rng.clone();
        let mut next = || if self.is_greedy() { 0.0 } else { uniform(&mut coming) };
        let at = next();
        Some(self.draw_of(at, (!last).then(next)))
    }

    /// A backend has drawn the next token, as [`Sampler::as_draw`] says.
    pub(crate) fn drawn(&mut self) {
        if !self.is_greedy() {
            uniform(&mut self.rng);
        }
    }

    fn is_greedy(&self) -> bool {
        self.params.temperature < COLDEST
    }

    fn draw_of(&self, at: f64, then: Option<f64>) -> Draw {
        let p = &self.params;
        let temperature = if self.is_greedy() { 0.0 } else { p.temperature };
        Draw { temperature, top_k: p.top_k, top_p: p.top_p, min_p: p.min_p, at, then }
    }

    /// Bias, penalties and mask.
    fn prepare(&self, row: &mut [f32], mask: Option<&TokenMask>) {
        for &(token, bias) in &self.params.logit_bias {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit += bias;
            }
        }
        if self.has_penalties() {
            self.penalise(row);
        }
        if let Some(mask) = mask {
            mask.apply(row);
        }
    }

    fn has_penalties(&self) -> bool {
        let p = &self.params;
        p.repetition_penalty != 1.0 || p.presence_penalty != 0.0 || p.frequency_penalty != 0.0
    }

    fn penalise(&self, row: &mut [f32]) {
        let p = &self.params;
        if p.repetition_penalty != 1.0 {
            let new = self.generated.keys().filter(|t| !self.prompt.contains(t));
            for &token in self.prompt.iter().chain(new) {
                if let Some(logit) = row.get_mut(token as usize) {
                    let divide = *logit > 0.0;
                    *logit =
                        if divide { *logit / p.repetition_penalty } else { *logit * p.repetition_penalty };
                }
            }
        }
        for (&token, &count) in &self.generated {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit -= p.presence_penalty + p.frequency_penalty * count as f32;
            }
        }
    }
}

/// Draws a token from `row`. `None` when none is left to draw.
pub(crate) fn pick(draw: &Draw, row: &mut [f32], space: &mut Workspace) -> Option<u32> {
    let mut max = space.maxima.read(row);
    if max == f32::INFINITY {
        // Differences to infinity are not numbers; the greatest finite value stands for it.
        row.iter_mut().filter(|x| **x == f32::INFINITY).for_each(|x| *x = f32::MAX);
        max = space.maxima.read(row);
    }
    if max == f32::NEG_INFINITY {
        return None;
    }
    if draw.is_greedy() {
        return space.maxima.position(row, max).map(|i| i as u32);
    }
    if !draw.cuts(row.len()) {
        let scale = draw.temperature.recip();
        let total = space.weights.read(row, max, scale);
        return space.weights.position(row, max, scale, draw.at * total).map(|i| i as u32);
    }
    let total = keep_best(draw, row, max, space);
    let mut left = draw.at * total;
    for &(token, weight) in &space.best {
        left -= f64::from(weight);
        if left < 0.0 {
            return Some(token);
        }
    }
    space.best.last().map(|&(token, _)| token)
}

/// Fills `space.best` with the tokens that top-k, top-p and min-p leave, best first, and their weights (that of the
/// best is 1); returns the sum of the weights.
fn keep_best(draw: &Draw, row: &[f32], max: f32, space: &mut Workspace) -> f64 {
    let scale = draw.temperature.recip();
    let weigh = |best: &mut Vec<(u32, f32)>| {
        best.iter_mut().for_each(|(_, x)| *x = exp((*x - max) * scale));
    };
    let Workspace { maxima, weights, best, .. } = space;
    if draw.top_k > 0 && draw.top_k < row.len() {
        maxima.top(row, draw.top_k, best);
        weigh(best);
        let total = best.iter().map(|&(_, w)| f64::from(w)).sum();
        cut_nucleus(best, draw.top_p, total);
    } else if draw.top_p < 1.0 {
        let total = weights.read(row, max, scale);
        let mut guess = NUCLEUS_GUESS;
        loop {
            maxima.top(row, guess, best);
            weigh(best);
            if cut_nucleus(best, draw.top_p, total) || guess >= row.len() {
                break;
            }
            guess *= 8;
        }
    } else {
        best.clear();
        maxima.at_least(row, max + draw.min_p.ln() * draw.temperature * 1.001, best);
        best.sort_unstable_by(select::descending);
        weigh(best);
    }
    best.retain(|&(_, weight)| weight >= draw.min_p);
    best.iter().map(|&(_, w)| f64::from(w)).sum()
}

/// A number in [0, 1).
fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Cuts `best` after the first token with which the weights reach `top_p` of `total`. False when they never do.
fn cut_nucleus(best: &mut Vec<(u32, f32)>, top_p: f32, total: f64) -> bool {
    if top_p >= 1.0 {
        return true;
    }
    let mut sum = 0.0;
    let last = best.iter().position(|&(_, weight)| {
        sum += f64::from(weight);
        sum >= f64::from(top_p) * total
    });
    best.truncate(last.map_or(best.len(), |i| i + 1));
    last.is_some()
}

#[cfg(test)]
mod tests;
