//! Many requests, some given up, with a prefix cache that is full all the time: nothing leaks and nobody is forgotten.

#![cfg(feature = "mlx")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use perch_backend_mlx::{MlxBackend, memory};
use perch_engine::{EngineConfig, EngineHandle, Event, GenerateRequest};
use perch_model::Checkpoint;
use support::{Golden, exact};
use tokio::time::timeout;

/// Requests in all; `TESTS_SOAK` asks for more.
fn requests() -> u32 {
    std::env::var("TESTS_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1000)
}

/// Threads of this process; `None` where the system does not tell.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(|tasks| tasks.count())
}

async fn start(model: Arc<Checkpoint>, config: EngineConfig) -> EngineHandle {
    let build = move || MlxBackend::load(model.clone(), exact());
    EngineHandle::start("tiny".to_owned(), config, build).await.unwrap()
}

/// Whether a request was answered whole; every third is given up after two tokens.
async fn ask(engine: EngineHandle, kind: u32, vocab: u32) -> bool {
    // Twelve beginnings, so that prefixes are found again, and more of them than the cache holds.
    let prompt: Vec<u32> =
        (0..40 + kind % 9).map(|i| (i * 7 + (kind % 12) * 31 + i / 36 * kind) % vocab).collect();
    let mut answer = engine.generate(GenerateRequest::new(prompt, 12)).unwrap();
    let (mut tokens, mut last) = (0, None);
    while let Some(event) = timeout(Duration::from_secs(120), answer.next()).await.expect("no answer is lost")
    {
        if let Event::Token { .. } = &event {
            tokens += 1;
            if kind.is_multiple_of(3) && tokens == 2 {
                return true;
            }
        }
        last = Some(event);
    }
    matches!(last, Some(Event::Finished { .. })) && tokens > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_leave_no_thread_and_no_memory_behind() {
    let golden = Golden::named("llama");
    let model = Arc::new(Checkpoint::open(&golden.folder).unwrap());
    let vocab = golden.vocab() as u32;
    let config = EngineConfig {
        queue_limit: 64,
        max_sequences: 8,
        kv_budget_bytes: 512 << 10,
        prefix_cache_bytes: 128 << 10,
        ..EngineConfig::default()
    };
    let (mut settled, mut answered) = (None, 0);
    for round in 0..10 {
        // A model of its own each round: loading and ending must leave nothing either.
        let engine = start(model.clone(), config.clone()).await;
        let each = requests() / 10;
        for batch in (0..each).collect::<Vec<_>>().chunks(16) {
            let asked = batch.iter().map(|i| tokio::spawn(ask(engine.clone(), round * each + i, vocab)));
            for done in asked.collect::<Vec<_>>() {
                assert!(done.await.unwrap(), "a request was not answered");
                answered += 1;
            }
        }
        let (most, _) = memory();
        assert!(
            (1..8 << 20).contains(&most),
            "MLX holds {most} bytes for a model of a few hundred kB and its KV"
        );
        engine.shutdown().await;
        drop(engine);
        let now = (threads(), memory());
        println!(
            "round {round}: {answered} answered, threads {:?}, MLX {most}, then {:?} bytes",
            now.0, now.1
        );
        // What the first rounds bring in stays: worker threads, compiled kernels.
        let (before, held) = *settled.get_or_insert(now);
        if round >= 2 {
            assert!(now.0 <= before.map(|n| n + 1), "threads grew from {before:?} to {:?}", now.0);
            assert!(now.1.0 <= held.0 + (1 << 20), "MLX's arrays grew from {} to {}", held.0, now.1.0);
        }
    }
    assert_eq!(answered, requests() / 10 * 10);
}
