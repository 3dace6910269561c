//! `Workload`: requests that come and go at given steps, and the check that each gets what a sequential run gives it,
//! whatever runs beside it and however little memory there is.

use futures_util::FutureExt;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Driver;
use super::oracle::{Answer, accepts, sequential};
use crate::validate::effective_limits;
use crate::{
    Backend, EngineConfig, EngineError, EngineStats, Event, FinishReason, GenerateRequest, Generation,
    Limits, Sampling,
};

/// Steps after which a workload counts as stuck.
const MAX_STEPS: usize = 5_000;

/// One request of a workload.
#[derive(Debug, Clone)]
pub struct Job {
    /// The step before which it arrives.
    pub arrives: usize,
    /// What it asks. It needs a seed unless it is greedy.
    pub request: GenerateRequest,
    /// After so many steps its client goes away.
    pub cancelled_after: Option<usize>,
}

/// Requests over time, and the sizes of the engine that serves them.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Sizes of the engine.
    pub config: EngineConfig,
    /// The requests, in any order.
    pub jobs: Vec<Job>,
}

/// What came back for one job.
#[derive(Debug, Default)]
struct Outcome {
    prefilled: bool,
    tokens: Vec<Vec<u32>>,
    finished: Vec<Option<(FinishReason, usize)>>,
    failed: Option<EngineError>,
}

impl Workload {
    /// A mix of short requests with shared prefixes, sized for the model, in an engine that is short of one thing or
    /// another. All are greedy if `greedy`.
    pub fn random(seed: u64, limits: &Limits, greedy: bool) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let longest = (limits.context_length / 2).min(limits.block_tokens * 3 + 20);
        let texts: Vec<Vec<u32>> = (0..3)
            .map(|_| (0..longest).map(|_| rng.random_range(0..limits.vocab_size as u32)).collect())
            .collect();
        let jobs: Vec<Job> = (0..rng.random_range(2..9))
            .map(|_| {
                let text = texts.choose(rng).map_or(&[][..], |text| &text[..rng.random_range(1..text.len())]);
                let mut prompt = text.to_vec();
                prompt.extend(
                    (0..rng.random_range(0..5)).map(|_| rng.random_range(0..limits.vocab_size as u32)),
                );
                let most = *[10, 100].choose(rng).unwrap_or(&10);
                let mut request = GenerateRequest::new(prompt, rng.random_range(1..most));
                request.n = *[1, 1, 1, 2, 3].choose(rng).unwrap_or(&1);
                request.sampling = random_sampling(rng, greedy);
                Job {
                    arrives: rng.random_range(0..12),
                    request,
                    cancelled_after: rng.random_bool(0.15).then(|| rng.random_range(1..10)),
                }
            })
            .collect();
        let need = jobs.iter().map(|j| j.request.prompt.len() + j.request.max_tokens).max().unwrap_or(1);
        let budget = (need * rng.random_range(10..16) / 10) as u64 * limits.kv_bytes_per_token as u64;
        let config = EngineConfig {
            max_sequences: rng.random_range(1..6),
            max_batch_tokens: *[1, 3, 8, 32, 512].choose(rng).unwrap_or(&8),
            kv_budget_bytes: budget,
            prefix_cache_bytes: *[0, budget / 4, budget].choose(rng).unwrap_or(&0),
            ..EngineConfig::default()
        };
        Self { config, jobs }
    }

    /// Runs it on a backend of `make` and holds every answer against a sequential run on another one.
    ///
    /// `tolerance` is how far logits may differ between the two: 0 wants the same tokens, and anything more wants
    /// greedy requests, each token of which is within twice that of the best when it is replayed. Returns the engine's
    /// last numbers, which tell what has been put to the test.
    ///
    /// # Errors
    /// What differs, what is wrong with the books, or who waits for ever.
    pub fn check<B: Backend>(&self, make: impl Fn() -> B, tolerance: f32) -> Result<EngineStats, String> {
        let mut driver = Driver::new(make(), self.config.clone());
        let outcomes = self.run(&mut driver)?;
        let mut alone = make();
        let limits = effective_limits(&alone.limits(), &self.config);
        for (i, (job, outcome)) in self.jobs.iter().zip(&outcomes).enumerate() {
            outcome.check(job, &limits, &mut alone, tolerance).map_err(|e| format!("job {i}: {e}"))?;
        }
        Ok(driver.stats())
    }

    fn run<B: Backend>(&self, driver: &mut Driver<B>) -> Result<Vec<Outcome>, String> {
        let mut outcomes: Vec<Outcome> = self.jobs.iter().map(|job| Outcome::new(job.request.n)).collect();
        let mut streams: Vec<Option<Generation>> = self.jobs.iter().map(|_| None).collect();
        let last_arrival = self.jobs.iter().map(|job| job.arrives).max().unwrap_or(0);
        for step in 0..MAX_STEPS {
            for (i, job) in self.jobs.iter().enumerate() {
                if job.arrives == step {
                    match driver.submit(job.request.clone()) {
                        Ok(stream) => streams[i] = Some(stream),
                        Err(error) => outcomes[i].failed = Some(error),
                    }
                }
                if job.cancelled_after.is_some_and(|after| job.arrives + after == step) {
                    streams[i] = None;
                }
            }
            driver.step()?;
            driver.check().map_err(|e| format!("after step {step}: {e}"))?;
            for (stream, outcome) in streams.iter_mut().zip(&mut outcomes) {
                outcome.read(stream)?;
            }
            if driver.is_idle() && step >= last_arrival {
                driver.rest();
                return Ok(outcomes);
            }
        }
        Err(format!("requests are still unanswered after {MAX_STEPS} steps"))
    }
}

impl Outcome {
    fn new(n: usize) -> Self {
        Self { tokens: vec![Vec::new(); n], finished: vec![None; n], ..Self::default() }
    }

    /// Takes what has arrived, and verifies the order of events.
    fn read(&mut self, stream: &mut Option<Generation>) -> Result<(), String> {
        while let Some(Some(event)) = stream.as_mut().and_then(|s| s.next().now_or_never()) {
            let is_live = |choice: usize| self.finished[choice].is_none() && self.failed.is_none();
            match event {
                Event::Prefilled { .. } if !self.prefilled && self.failed.is_none() => self.prefilled = true,
                Event::Token { choice, id, .. } if self.prefilled && is_live(choice) => {
                    self.tokens[choice].push(id);
                }
                Event::Finished { choice, reason, generated } if self.prefilled && is_live(choice) => {
                    self.finished[choice] = Some((reason, generated));
                }
                Event::Failed(error) if self.failed.is_none() => self.failed = Some(error),
                event => return Err(format!("{event:?} came out of order")),
            }
        }
        Ok(())
    }

    /// Whether this is what the job should get.
    fn check(
        &self,
        job: &Job,
        limits: &Limits,
        alone: &mut dyn Backend,
        tolerance: f32,
    ) -> Result<(), String> {
        if let Some(error) = &self.failed {
            let too_long = job.request.prompt.len() + 1 > limits.context_length;
            return match error {
                EngineError::ContextLength { .. } | EngineError::KvBudget { .. } if too_long => Ok(()),
                EngineError::QueueFull { .. } => Ok(()),
                error => Err(format!("failed: {error}")),
            };
        }
        if job.cancelled_after.is_none() && self.finished.contains(&None) {
            return Err("a choice never finished".to_owned());
        }
        if tolerance > 0.0 {
            let answers = self.tokens.iter().zip(&self.finished);
            return answers.filter(|(_, f)| f.is_some()).try_for_each(|(tokens, finished)| {
                let stop = match finished {
                    Some((FinishReason::Stop(id), _)) => Some(*id),
                    _ => None,
                };
                let tokens: Vec<u32> = tokens.iter().copied().chain(stop).collect();
                accepts(alone, &job.request.prompt, &tokens, tolerance)
            });
        }
        let expected = sequential(alone, limits, &job.request).map_err(|e| e.to_string())?;
        for (choice, answer) in expected.iter().enumerate() {
            self.check_choice(choice, answer)?;
        }
        Ok(())
    }

    fn check_choice(&self, choice: usize, expected: &Answer) -> Result<(), String> {
        let tokens = &self.tokens[choice];
        let Some((reason, generated)) = self.finished[choice] else {
            let is_prefix = expected.tokens.starts_with(tokens);
            return if is_prefix {
                Ok(())
            } else {
                Err(format!("choice {choice}: {tokens:?} before it was cancelled, not {expected:?}"))
            };
        };
        let stop = usize::from(matches!(reason, FinishReason::Stop(_)));
        if *tokens != expected.tokens || reason != expected.reason || generated != tokens.len() + stop {
            return Err(format!(
                "choice {choice}: {generated} tokens, {tokens:?}, {reason:?}, not {expected:?}"
            ));
        }
        Ok(())
    }
}

fn random_sampling(rng: &mut ChaCha8Rng, greedy: bool) -> Sampling {
    if greedy {
        return Sampling { temperature: 0.0, ..Sampling::default() };
    }
    Sampling {
        temperature: *[0.0, 0.7, 1.3].choose(rng).unwrap_or(&1.0),
        top_k: *[0, 5].choose(rng).unwrap_or(&0),
        top_p: *[1.0, 0.9].choose(rng).unwrap_or(&1.0),
        min_p: *[0.0, 0.05].choose(rng).unwrap_or(&0.0),
        repetition_penalty: *[1.0, 1.2].choose(rng).unwrap_or(&1.0),
        frequency_penalty: *[0.0, 0.4].choose(rng).unwrap_or(&0.0),
        seed: Some(rng.random()),
        ..Sampling::default()
    }
}
