//! Timing the engine itself: no HTTP, no tokenizer, random tokens, no stop tokens.
//!
//! Every timed prompt is new to the prefix cache (a salt of its own) unless reuse is what is timed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use perch_engine::{EngineHandle, Event, GenerateRequest, Sampling};

use super::report::{Decode, FirstToken, Prefill, Throughput};

/// Tokens in each prompt when throughput is timed.
const STREAM_PROMPT: usize = 32;
/// New tokens after the cached prefix when its reuse is timed: a short question.
pub(super) const NEW_TOKENS: usize = 32;

/// Takes figures from a loaded model.
pub(crate) struct Bench {
    pub(crate) engine: EngineHandle,
    /// Tokens generated for each figure.
    pub(crate) tokens: usize,
    /// Times each figure is taken.
    pub(crate) repeat: usize,
    random: u64,
}

/// When the events of one request came, from its submission on.
struct Timing {
    prefilled: Duration,
    first: Duration,
    last: Duration,
    cached: usize,
}

impl Bench {
    pub(crate) fn new(engine: EngineHandle, tokens: usize, repeat: usize) -> Self {
        Self { engine, tokens: tokens.max(1), repeat: repeat.max(1), random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Whether `prompt` and the generated tokens fit the model's context.
    pub(crate) fn fits(&self, prompt: usize) -> bool {
        prompt + self.tokens < self.engine.limits().context_length
    }

    /// Runs the model once, so that its pages are in memory and its caches warm.
    pub(crate) async fn warm_up(&mut self) -> Result<()> {
        let prompt = self.prompt(16);
        self.time(prompt, 2, 0).await.map(drop)
    }

    /// Tokens of a cold prompt per second.
    pub(crate) async fn prefill(&mut self, tokens: usize) -> Result<Prefill> {
        let mut rates = Vec::new();
        for _ in 0..self.repeat {
            let (prompt, salt) = (self.prompt(tokens), self.next());
            let timing = self.time(prompt, 1, salt).await?;
            rates.push(tokens as f64 / timing.prefilled.as_secs_f64());
        }
        Ok(Prefill { tokens, per_s: median(rates) })
    }

    /// Tokens generated per second by one stream after `depth` tokens: how much longer an answer of many tokens takes
    /// than one of a single token. (The times at which tokens are seen here say less: they come in bunches.)
    pub(crate) async fn decode(&mut self, depth: usize) -> Result<Decode> {
        // The prompt is prefilled once and then taken from the prefix cache.
        let (prompt, salt) = (self.prompt(depth.max(1)), self.next());
        let (mut short, mut long) = (Vec::new(), Vec::new());
        self.time(prompt.clone(), 1, salt).await?;
        for _ in 0..self.repeat {
            short.push(self.time(prompt.clone(), 1, salt).await?.last.as_secs_f64());
            long.push(self.time(prompt.clone(), 1 + self.tokens, salt).await?.last.as_secs_f64());
        }
        let took = (median(long) - median(short)).max(1e-6);
        Ok(Decode { depth, per_s: self.tokens as f64 / took })
    }

    /// Time to the first token with and without `prefix` tokens in the prefix cache.
    pub(crate) async fn first_token(&mut self, prefix: usize) -> Result<FirstToken> {
        let (mut cold, mut warm, mut cached) = (Vec::new(), Vec::new(), 0);
        for _ in 0..self.repeat {
            let (shared, salt) = (self.prompt(prefix), self.next());
            for times in [&mut cold, &mut warm] {
                let mut prompt = shared.clone();
                prompt.extend(self.prompt(NEW_TOKENS));
                let timing = self.time(prompt, 1, salt).await?;
                times.push(timing.first.as_secs_f64() * 1e3);
                cached = timing.cached;
            }
        }
        let (cold_ms, cached_ms) = (median(cold), median(warm));
        Ok(FirstToken {
            prefix_tokens: prefix,
            new_tokens: NEW_TOKENS,
            cold_ms,
            cached_ms,
            cached_tokens: cached,
        })
    }

    /// Tokens generated per second by `streams` requests together, their short prompts' prefill included.
    pub(crate) async fn throughput(&mut self, streams: usize) -> Result<Throughput> {
        let mut rates = Vec::new();
        for _ in 0..self.repeat {
            let start = Instant::now();
            let mut running = Vec::new();
            for _ in 0..streams {
                let (prompt, salt) = (self.prompt(STREAM_PROMPT), self.next());
                running.push(self.engine.generate(request(prompt, self.tokens, salt))?);
            }
            let mut generated = 0;
            for mut generation in running {
                while let Some(event) = generation.next().await {
                    match event {
                        Event::Token { .. } => generated += 1,
                        Event::Failed(error) => return Err(error.into()),
                        _ => {}
                    }
                }
            }
            rates.push(generated as f64 / start.elapsed().as_secs_f64());
        }
        Ok(Throughput { streams, per_s: median(rates) })
    }

    async fn time(&self, prompt: Vec<u32>, tokens: usize, salt: u64) -> Result<Timing> {
        let start = Instant::now();
        let mut generation = self.engine.generate(request(prompt, tokens, salt))?;
        let (mut prefilled, mut first, mut last) = (None, None, start);
        let (mut count, mut cached) = (0, 0);
        while let Some(event) = generation.next().await {
            match event {
                Event::Prefilled { cached_tokens, .. } => {
                    prefilled = Some(start.elapsed());
                    cached = cached_tokens;
                }
                Event::Token { .. } => {
                    last = Instant::now();
                    first.get_or_insert(last);
                    count += 1;
                }
                Event::Failed(error) => return Err(error.into()),
                _ => {}
            }
        }
        if count < tokens {
            bail!("the model ended after {count} of {tokens} tokens");
        }
        Ok(Timing {
            prefilled: prefilled.context("the prompt was never prefilled")?,
            first: first.context("no token came")? - start,
            last: last - start,
            cached,
        })
    }

    /// Random tokens of the vocabulary, the same in every run of the command.
    fn prompt(&mut self, len: usize) -> Vec<u32> {
        let vocab = self.engine.limits().vocab_size.max(1) as u64;
        (0..len).map(|_| (self.next() % vocab) as u32).collect()
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn request(prompt: Vec<u32>, tokens: usize, salt: u64) -> GenerateRequest {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    GenerateRequest { sampling, cache_salt: salt, ..GenerateRequest::new(prompt, tokens) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
