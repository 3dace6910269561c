//! The engine thread and its handle: many clients, failures and restarts, shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use perch_engine::testing::{FakeBackend, FakeModel, Fault, Probe};
use perch_engine::{
    Backend, BackendError, BlockId, EngineConfig, EngineError, EngineHandle, EngineState, Event,
    GenerateRequest, Generation, Limits, Run, SeqId, StartError,
};
use tokio::time::{sleep, timeout};

use crate::common::*;

/// An engine over a fake model, and what the model sees.
async fn start(model: FakeModel, config: EngineConfig) -> (EngineHandle, Probe) {
    let probe = Probe::default();
    let seen = probe.clone();
    let build = move || Ok::<_, String>(FakeBackend::new(model.clone(), probe.clone()));
    let config = EngineConfig { restart_backoff: Duration::from_millis(5), ..config };
    (EngineHandle::start("fake".to_owned(), config, build).await.expect("it must start"), seen)
}

fn slow(ms: u64) -> FakeModel {
    FakeModel { step_delay: Duration::from_millis(ms), ..model(true) }
}

async fn all(stream: Generation) -> Vec<Event> {
    timeout(Duration::from_secs(20), stream.collect()).await.expect("the stream must end")
}

async fn until(engine: &EngineHandle, wanted: impl Fn(&EngineState) -> bool) -> EngineState {
    let mut states = engine.watch();
    let state = timeout(Duration::from_secs(10), states.wait_for(|state| wanted(state))).await;
    state.expect("the state must come").expect("the engine must live").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_clients_at_once_are_each_answered() {
    let config = EngineConfig { queue_limit: 120, max_sequences: 16, ..config(3000, 64) };
    let (engine, probe) = start(slow(1), config).await;
    let clients = (0..200).map(|kind| {
        let engine = engine.clone();
        tokio::spawn(async move {
            match engine.generate(request(prompt(kind, 30), 10)) {
                Ok(stream) => tokens_of(&all(stream).await, 0).len(),
                Err(EngineError::QueueFull { waiting, retry_after_s }) => {
                    assert!(waiting >= 120 && (1..=60).contains(&retry_after_s));
                    0
                }
                Err(other) => panic!("{other}"),
            }
        })
    });
    let answers: Vec<usize> = join_all(clients).await.into_iter().map(Result::unwrap).collect();
    let served = answers.iter().filter(|&&n| n == 10).count();
    assert!(served >= 120 && answers.iter().all(|&n| n == 10 || n == 0), "{answers:?}");
    until(&engine, |state| *state == EngineState::Idle).await;
    let stats = engine.stats();
    assert_eq!((stats.finished, stats.running, stats.waiting), (served as u64, 0, 0));
    assert!(stats.prefill_tokens_per_s > 0.0 && stats.decode_tokens_per_s > 0.0);
    assert_eq!(probe.sequences(), 0);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_takes_the_next_when_there_is_room() {
    let config = EngineConfig { queue_limit: 2, max_sequences: 1, ..config(3000, 64) };
    let (engine, _) = start(slow(2), config).await;
    let mut running = engine.generate(request(prompt(0, 5), 500)).unwrap();
    assert!(matches!(running.next().await, Some(Event::Prefilled { .. })));
    let waiting: Vec<_> = (1..3).map(|kind| engine.generate(request(prompt(kind, 5), 2)).unwrap()).collect();
    let error = engine.generate(request(prompt(3, 5), 2)).unwrap_err();
    assert!(matches!(error, EngineError::QueueFull { waiting: 2, .. }), "{error}");
    assert_eq!(engine.stats().waiting, 2);
    drop(running);
    for stream in waiting {
        assert_eq!(tokens_of(&all(stream).await, 0).len(), 2);
    }
    assert!(engine.generate(request(prompt(3, 5), 2)).is_ok());
    engine.shutdown().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_delays_nobody() {
    let (engine, _) = start(model(true), config(3000, 64)).await;
    let lazy = engine.generate(request(prompt(1, 5), 300)).unwrap();
    for kind in 2..6 {
        let events = all(engine.generate(request(prompt(kind, 5), 10)).unwrap()).await;
        assert_eq!(tokens_of(&events, 0).len(), 10);
    }
    until(&engine, |state| *state == EngineState::Idle).await;
    assert_eq!(tokens_of(&all(lazy).await, 0).len(), 300, "its events have waited for it");
    engine.shutdown().await;
}

#[tokio::test]
async fn dropping_a_stream_cancels_it() {
    let (engine, probe) = start(slow(1), config(3000, 64)).await;
    let mut stream = engine.generate(request(prompt(1, 5), 2000)).unwrap();
    while !matches!(stream.next().await, Some(Event::Token { .. })) {}
    drop(stream);
    until(&engine, |state| *state == EngineState::Idle).await;
    assert_eq!((engine.stats().cancelled, probe.sequences()), (1, 0));
    assert!(probe.batches().len() < 1000);
    engine.shutdown().await;
}

/// Fails the running request, and nobody else: the one that waits is served by the next backend.
async fn survives(fault: Fault) {
    let config = EngineConfig { max_sequences: 1, ..config(3000, 64) };
    let faults = vec![(5, fault)];
    let (engine, probe) = start(FakeModel { faults, ..slow(1) }, config).await;
    let (mut driver, _) = driver(model(true), EngineConfig::default());
    let alone = tokens_of(&run(&mut driver, request(prompt(2, 9), 12)), 0);
    let mut states = engine.watch();
    let running = engine.generate(request(prompt(1, 5), 50)).unwrap();
    let waiting = engine.generate(request(prompt(2, 9), 12)).unwrap();
    let events = all(running).await;
    assert!(
        matches!(events.last(), Some(Event::Failed(EngineError::Restarting(m))) if m.contains("scripted")),
        "{events:?}"
    );
    let restarting = states.wait_for(|s| matches!(s, EngineState::Restarting { failures: 1, .. }));
    timeout(Duration::from_secs(5), restarting).await.expect("the restart must be announced").unwrap();
    assert_eq!(tokens_of(&all(waiting).await, 0), alone);
    until(&engine, |state| *state == EngineState::Idle).await;
    let stats = engine.stats();
    assert_eq!((stats.restarts, stats.failed, stats.finished), (1, 1, 1));
    assert_eq!(probe.sequences(), 0);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_panic_restarts_the_engine_and_requests_that_wait_survive() {
    survives(Fault::Panic).await;
}

#[tokio::test]
async fn a_fatal_error_restarts_the_engine_and_requests_that_wait_survive() {
    survives(Fault::Fatal).await;
}

#[tokio::test]
async fn requests_during_a_restart_are_queued_and_served_after_it() {
    let builds = Arc::new(AtomicU32::new(0));
    let counted = builds.clone();
    let build = move || match counted.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(FakeBackend::new(
            FakeModel { faults: vec![(0, Fault::Panic)], ..model(true) },
            Probe::default(),
        )),
        1 | 2 => Err("the device is busy"),
        _ => Ok(FakeBackend::new(model(true), Probe::default())),
    };
    let config = EngineConfig { restart_backoff: Duration::from_millis(20), ..config(3000, 64) };
    let engine = EngineHandle::start("m".to_owned(), config, build).await.unwrap();
    let first = all(engine.generate(request(prompt(1, 5), 5)).unwrap()).await;
    assert!(matches!(first[..], [Event::Failed(EngineError::Restarting(_))]));
    until(&engine, |s| matches!(s, EngineState::Restarting { message, .. } if message.contains("busy")))
        .await;
    let events = all(engine.generate(request(prompt(2, 5), 5)).unwrap()).await;
    assert_eq!(tokens_of(&events, 0).len(), 5);
    assert_eq!((builds.load(Ordering::SeqCst), engine.stats().restarts), (4, 3));
    engine.shutdown().await;
}

#[tokio::test]
async fn an_engine_that_fails_again_and_again_is_given_up_and_says_why() {
    let faults = (0..100).map(|pass| (pass, Fault::Fatal)).collect();
    let config = EngineConfig { max_failures: 3, ..config(3000, 64) };
    let (engine, _) = start(FakeModel { faults, ..model(true) }, config).await;
    for kind in 0..2 {
        let events = all(engine.generate(request(prompt(kind, 5), 5)).unwrap()).await;
        assert!(matches!(events[..], [Event::Failed(EngineError::Restarting(_))]), "{events:?}");
    }
    let last = all(engine.generate(request(prompt(2, 5), 5)).unwrap()).await;
    assert!(matches!(last[..], [Event::Failed(_)]), "{last:?}");
    let state = until(&engine, |state| matches!(state, EngineState::Failed { .. })).await;
    assert_eq!(state, EngineState::Failed { message: "a scripted failure".to_owned() });
    let error = engine.generate(request(prompt(9, 5), 5)).unwrap_err();
    assert_eq!(error, EngineError::Failed("a scripted failure".to_owned()));
    assert_eq!(engine.stats().running, 0);
    timeout(Duration::from_secs(5), engine.shutdown()).await.expect("shutdown must return");
    assert!(matches!(engine.stats().state, EngineState::Failed { .. }));
}

#[tokio::test]
async fn failures_with_answers_in_between_are_not_in_a_row() {
    let faults = (0..10).map(|i| (i * 20, Fault::Panic)).collect();
    let config = EngineConfig { max_failures: 2, ..config(3000, 64) };
    let (engine, _) = start(FakeModel { faults, ..model(true) }, config).await;
    let mut answered = 0;
    for kind in 0..60 {
        let events = all(engine.generate(request(prompt(kind, 3), 4)).unwrap()).await;
        answered += usize::from(tokens_of(&events, 0).len() == 4);
    }
    assert!(answered >= 50, "{answered}");
    assert!(engine.stats().restarts >= 8);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_says_why() {
    let load = |build: fn() -> Result<FakeBackend, &'static str>, config: EngineConfig| {
        EngineHandle::start("m".to_owned(), config, build)
    };
    let fine = || Ok(FakeBackend::new(FakeModel::default(), Probe::default()));
    let error = load(|| Err("no such file"), config(100, 9)).await.unwrap_err();
    assert_eq!(error, StartError::Load("no such file".to_owned()));
    let error = load(|| panic!("kernel missing"), config(100, 9)).await.unwrap_err();
    assert_eq!(error, StartError::Load("panic: kernel missing".to_owned()));
    let error = load(fine, config(1, 9)).await.unwrap_err();
    assert!(matches!(&error, StartError::Config(m) if m.contains("holds 1 tokens")), "{error}");
    let error = load(fine, EngineConfig { max_sequences: 0, ..config(100, 9) }).await.unwrap_err();
    assert!(matches!(&error, StartError::Config(m) if m.contains("max_sequences")), "{error}");
}

/// A backend whose drop is seen from outside.
struct Dropped(FakeBackend, Arc<AtomicU32>);

impl Drop for Dropped {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(30));
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl Backend for Dropped {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    fn open(&mut self, seq: SeqId, prefix: &[BlockId]) -> Result<(), BackendError> {
        self.0.open(seq, prefix)
    }
    fn fork(&mut self, from: SeqId, to: SeqId) -> Result<(), BackendError> {
        self.0.fork(from, to)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), BackendError> {
        self.0.truncate(seq, len)
    }
    fn close(&mut self, seq: SeqId) {
        self.0.close(seq);
    }
    fn save(&mut self, seq: SeqId, index: usize, block: BlockId) -> Result<(), BackendError> {
        self.0.save(seq, index, block)
    }
    fn forget(&mut self, block: BlockId) {
        self.0.forget(block);
    }
    fn forward(&mut self, batch: &[Run<'_>]) -> Result<Vec<f32>, BackendError> {
        self.0.forward(batch)
    }
}

async fn start_dropped(step_ms: u64) -> (EngineHandle, Arc<AtomicU32>) {
    let drops = Arc::new(AtomicU32::new(0));
    let counted = drops.clone();
    let build =
        move || Ok::<_, String>(Dropped(FakeBackend::new(slow(step_ms), Probe::default()), counted.clone()));
    (EngineHandle::start("dropped".to_owned(), config(3000, 64), build).await.unwrap(), drops)
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_the_thread_and_every_stream_ends() {
    let (engine, drops) = start_dropped(1).await;
    let streams: Vec<_> =
        (0..5).map(|kind| engine.generate(request(prompt(kind, 5), 2000)).unwrap()).collect();
    let second = engine.clone();
    tokio::join!(engine.shutdown(), second.shutdown());
    assert_eq!(drops.load(Ordering::SeqCst), 1, "the backend is gone when shutdown returns");
    for stream in streams {
        assert_eq!(all(stream).await.last(), Some(&Event::Failed(EngineError::Closed)));
    }
    assert_eq!(engine.generate(request(prompt(1, 5), 5)).unwrap_err(), EngineError::Closed);
    assert_eq!(engine.stats().state, EngineState::Closed);
    engine.shutdown().await;
}

#[tokio::test]
async fn draining_lets_requests_finish_but_no_longer_than_it_was_given() {
    let (engine, _) = start_dropped(1).await;
    let short = engine.generate(request(prompt(1, 5), 20)).unwrap();
    let draining = tokio::spawn({
        let engine = engine.clone();
        async move { engine.drain(Duration::from_secs(20)).await }
    });
    assert_eq!(tokens_of(&all(short).await, 0).len(), 20);
    timeout(Duration::from_secs(5), draining).await.expect("it must end with the last request").unwrap();

    let (engine, _) = start_dropped(1).await;
    let long = engine.generate(request(prompt(1, 5), 2500)).unwrap();
    let began = Instant::now();
    engine.drain(Duration::from_millis(50)).await;
    assert!(began.elapsed() < Duration::from_millis(1500));
    assert_eq!(all(long).await.last(), Some(&Event::Failed(EngineError::Closed)));
}

#[tokio::test]
async fn without_handles_the_thread_finishes_its_work_and_ends() {
    let (engine, drops) = start_dropped(0).await;
    let stream = engine.generate(request(prompt(1, 5), 200)).unwrap();
    let mut states = engine.watch();
    drop(engine);
    assert_eq!(tokens_of(&all(stream).await, 0).len(), 200);
    let closed = states.wait_for(|state| *state == EngineState::Closed);
    timeout(Duration::from_secs(5), closed).await.expect("the thread must end").unwrap();
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_idle_engine_sleeps_and_gives_memory_back_once() {
    let config = EngineConfig { trim_after: Duration::from_millis(10), ..config(3000, 64) };
    let (engine, probe) = start(model(true), config).await;
    all(engine.generate(request(prompt(1, 5), 5)).unwrap()).await;
    until(&engine, |state| *state == EngineState::Idle).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!((probe.trims(), engine.stats().steps), (1, 5));
    assert_eq!(engine.stats().step_age, None);
    all(engine.generate(request(prompt(1, 5), 5)).unwrap()).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn the_age_of_a_step_shows_a_backend_that_hangs() {
    let (engine, _) = start(slow(400), config(3000, 64)).await;
    let stream = engine.generate(request(prompt(1, 5), 1)).unwrap();
    sleep(Duration::from_millis(200)).await;
    let stats = engine.stats();
    assert!(stats.step_age.is_some_and(|age| age >= Duration::from_millis(50)), "{stats:?}");
    assert_eq!(stats.state, EngineState::Active);
    all(stream).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text_whatever_runs_beside_it() {
    let (engine, _) = start(model(false), config(3000, 32)).await;
    let seeded = || {
        let mut request = GenerateRequest::new(prompt(1, 40), 30);
        request.sampling.seed = Some(42);
        request
    };
    let alone = tokens_of(&all(engine.generate(seeded()).unwrap()).await, 0);
    let beside: Vec<_> = (0..9)
        .map(|kind| engine.generate(GenerateRequest::new(prompt(kind, 3 + 20 * kind as usize), 40)).unwrap())
        .collect();
    let again = tokens_of(&all(engine.generate(seeded()).unwrap()).await, 0);
    assert_eq!(alone, again);
    drop(beside);
    engine.shutdown().await;
}

#[tokio::test]
async fn on_a_slow_machine_prompts_are_cut_so_that_streams_keep_flowing() {
    let config = EngineConfig { step_target: Duration::from_millis(20), ..config(3000, 512) };
    let model = FakeModel { token_delay: Duration::from_millis(1), ..model(true) };
    let (engine, probe) = start(model, config).await;
    let mut stream = engine.generate(request(prompt(1, 40), 2000)).unwrap();
    while !matches!(stream.next().await, Some(Event::Token { .. })) {}
    let events = all(engine.generate(request(prompt(2, 400), 1)).unwrap()).await;
    assert_eq!(tokens_of(&events, 0).len(), 1);
    let chunks: Vec<usize> =
        probe.batches().iter().filter(|b| b.len() == 2).map(|b| b[0].2.max(b[1].2)).collect();
    assert!(chunks.len() >= 8, "{chunks:?}");
    assert!(chunks.iter().all(|&tokens| tokens < 100), "a chunk of 20 tokens takes 20 ms: {chunks:?}");
    engine.shutdown().await;
}
