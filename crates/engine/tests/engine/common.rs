//! What these tests share: small requests, small sizes, and readers of events.

use futures_util::FutureExt;
use perch_engine::testing::{Driver, FakeBackend, FakeModel, Probe};
use perch_engine::{EngineConfig, Event, GenerateRequest, Generation, Limits, Sampling};

/// A prompt of `len` tokens; different kinds differ from the first token on.
pub(crate) fn prompt(kind: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (kind + i * 7 + i * i) % 60).collect()
}

/// A greedy request.
pub(crate) fn request(prompt: Vec<u32>, max_tokens: usize) -> GenerateRequest {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    GenerateRequest { sampling, ..GenerateRequest::new(prompt, max_tokens) }
}

/// A configuration with a budget in tokens (the fake model's KV is one byte per token) and half of it for the cache.
pub(crate) fn config(budget: usize, max_batch_tokens: usize) -> EngineConfig {
    EngineConfig {
        kv_budget_bytes: budget as u64,
        prefix_cache_bytes: budget as u64 / 2,
        max_batch_tokens,
        ..EngineConfig::default()
    }
}

/// A driver over a fake model, and what the model sees.
pub(crate) fn driver(model: FakeModel, config: EngineConfig) -> (Driver<FakeBackend>, Probe) {
    let probe = Probe::default();
    (Driver::new(FakeBackend::new(model, probe.clone()), config), probe)
}

/// The default fake model, sharing blocks or copying them.
pub(crate) fn model(shares_blocks: bool) -> FakeModel {
    let limits = Limits { shares_blocks, ..FakeModel::default().limits };
    FakeModel { limits, ..FakeModel::default() }
}

/// The events that have arrived.
pub(crate) fn arrived(stream: &mut Generation) -> Vec<Event> {
    std::iter::from_fn(|| stream.next().now_or_never().flatten()).collect()
}

/// The tokens of choice `choice` among events.
pub(crate) fn tokens_of(events: &[Event], choice: usize) -> Vec<u32> {
    let token = |event: &Event| match event {
        Event::Token { choice: c, id, .. } if *c == choice => Some(*id),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

/// The number of cached prompt tokens that the events tell of.
pub(crate) fn cached(events: &[Event]) -> usize {
    let cached = |event: &Event| match event {
        Event::Prefilled { cached_tokens, .. } => Some(*cached_tokens),
        _ => None,
    };
    events.iter().find_map(cached).expect("the prompt must have been prefilled")
}

/// Steps until there is nothing to do, verifying the books each time.
pub(crate) fn finish(driver: &mut Driver<FakeBackend>) {
    for _ in 0..10_000 {
        if driver.is_idle() {
            driver.rest();
            return;
        }
        driver.step().expect("no step may fail");
        driver.check().expect("the books must be right");
    }
    panic!("requests are still unanswered");
}

/// Runs one request to its end and returns its events.
pub(crate) fn run(driver: &mut Driver<FakeBackend>, request: GenerateRequest) -> Vec<Event> {
    let mut stream = driver.submit(request).expect("the request must be taken in");
    finish(driver);
    arrived(&mut stream)
}
