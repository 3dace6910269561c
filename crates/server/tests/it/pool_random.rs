//! The pool under random use: whatever requests, cancellations, failures and administration come together, memory stays
//! within its limit, what is in use stays, nothing is loaded twice, and nobody waits for ever.

use std::sync::Arc;
use std::time::Duration;

use perch_engine::EngineState;
use perch_protocol::{ErrorCode, InUse};
use perch_server::{ApiError, ModelPool};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::time::{sleep, timeout};

use crate::script::Script;
use crate::support::{Behaviour, Server, eventually};

const MODELS: [&str; 4] = ["a", "b", "c", "broken"];
const LIMIT: u64 = 8 << 20;

/// What one client does, one after the other.
#[derive(Debug, Clone)]
enum Act {
    /// Uses a model for so many milliseconds.
    Use(usize, u64),
    /// Asks for a model, and goes away after so many milliseconds.
    GiveUp(usize, u64),
    Unload(usize, InUse),
    Pin(usize, bool),
    Refresh,
    Pause(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let model = 0..MODELS.len();
    prop_oneof![
        6 => (model.clone(), 0..8u64).prop_map(|(m, ms)| Act::Use(m, ms)),
        2 => (model.clone(), 0..6u64).prop_map(|(m, ms)| Act::GiveUp(m, ms)),
        1 => (model.clone(), prop_oneof![Just(InUse::Refuse), Just(InUse::Wait)])
            .prop_map(|(m, how)| Act::Unload(m, how)),
        1 => (0..1usize, any::<bool>()).prop_map(|(m, pinned)| Act::Pin(m, pinned)),
        1 => Just(Act::Refresh),
        2 => (0..5u64).prop_map(Act::Pause),
    ]
}

#[derive(Debug, Clone)]
struct Case {
    max_models: usize,
    idle_ms: Option<u64>,
    load_ms: u64,
    /// MiB of the weights of each model.
    weights: Vec<u64>,
    clients: Vec<Vec<Act>>,
}

fn case() -> impl Strategy<Value = Case> {
    (
        2..4usize,
        prop::option::of(0..10u64),
        0..4u64,
        prop::collection::vec(1..7u64, MODELS.len()),
        prop::collection::vec(prop::collection::vec(act(), 1..12), 1..7),
    )
        .prop_map(|(max_models, idle_ms, load_ms, weights, clients)| Case {
            max_models,
            idle_ms,
            load_ms,
            weights,
            clients,
        })
}

/// Errors that random use may bring.
fn may_happen(model: usize, error: &ApiError) -> bool {
    match error.code {
        ErrorCode::InvalidModelFile => MODELS[model] == "broken",
        // A pinned model may leave no room, of places or of memory.
        ErrorCode::Conflict | ErrorCode::InsufficientMemory => true,
        _ => false,
    }
}

async fn perform(pool: &ModelPool, act: Act) -> Result<(), String> {
    match act {
        Act::Use(model, ms) => match pool.lease(Some(MODELS[model])).await {
            Ok(lease) => {
                sleep(Duration::from_millis(ms)).await;
                match *lease.engine.watch().borrow() {
                    EngineState::Closed => return Err(format!("{} was unloaded while in use", lease.id)),
                    _ if lease.id != MODELS[model] => return Err(format!("{} is not it", lease.id)),
                    _ => {}
                }
            }
            Err(error) if may_happen(model, &error) => {}
            Err(error) => return Err(format!("{}: {error}", MODELS[model])),
        },
        Act::GiveUp(model, ms) => {
            let _ = timeout(Duration::from_millis(ms), pool.lease(Some(MODELS[model]))).await;
        }
        Act::Unload(model, how) => match pool.unload(MODELS[model], how).await {
            Err(error) if error.code != ErrorCode::Conflict => return Err(error.to_string()),
            _ => {}
        },
        Act::Pin(model, pinned) => {
            pool.pin(MODELS[model], pinned).await.map_err(|error| error.to_string())?;
        }
        Act::Refresh => pool.refresh(),
        Act::Pause(ms) => sleep(Duration::from_millis(ms)).await,
    }
    Ok(())
}

async fn run(case: Case) -> Result<(), TestCaseError> {
    let server = Server::with_models(&MODELS, |config| {
        config.pool.max_models = case.max_models;
        config.pool.idle_ttl = case.idle_ms.map(Duration::from_millis);
        config.pool.memory_limit = Some(LIMIT);
    })
    .await;
    for (model, mib) in MODELS.iter().zip(&case.weights) {
        server.loader.weights.lock().unwrap().insert((*model).to_owned(), mib << 20);
        server.script(model, Script::say("ok"));
    }
    server.behave("broken", Behaviour::Unsupported);
    *server.loader.delay.lock().unwrap() = Duration::from_millis(case.load_ms);

    let clients = case.clients.into_iter().map(|acts| {
        let pool = server.handle.pool().clone();
        tokio::spawn(async move {
            for act in acts {
                let what = format!("{act:?}");
                match timeout(Duration::from_secs(20), perform(&pool, act)).await {
                    Ok(done) => done?,
                    Err(_) => return Err(format!("{what} waits for ever")),
                }
            }
            Ok(())
        })
    });
    let watcher = tokio::spawn(watch(server.handle.pool().clone(), case.max_models));
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap().map_err(TestCaseError::fail)?;
    }
    watcher.abort();
    if let Ok(Some(wrong)) = watcher.await {
        return Err(TestCaseError::fail(wrong));
    }
    let memory = server.loader.memory.clone();
    prop_assert!(memory.most() <= LIMIT, "{} bytes were held", memory.most());
    prop_assert_eq!(memory.twice(), Vec::<String>::new());
    // Nothing is held any more, and everything can still be had.
    prop_assert!(server.handle.pool().status().iter().all(|model| model.in_use == 0));
    server.handle.pool().pin("a", false).await.map_err(|error| TestCaseError::fail(error.to_string()))?;
    for model in ["a", "b", "c"] {
        let lease = server.handle.pool().lease(Some(model)).await;
        prop_assert!(lease.is_ok(), "{}: {:?}", model, lease.err());
    }
    server.handle.shutdown(Duration::from_secs(1)).await;
    eventually("all memory is free", || memory.held() == 0).await;
    Ok(())
}

/// What is seen to be wrong, if anything.
async fn watch(pool: ModelPool, max_models: usize) -> Option<String> {
    let mut changed = pool.watch();
    loop {
        let loaded = pool.all_loaded().len();
        if loaded > max_models {
            return Some(format!("{loaded} models are in {max_models} places"));
        }
        changed.changed().await.ok()?;
    }
}

#[test]
fn random_use_keeps_the_pools_promises() {
    let runtime =
        Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    let config = Config { cases: 40, failure_persistence: None, max_shrink_iters: 60, ..Config::default() };
    TestRunner::new(config).run(&case(), |case| runtime.block_on(run(case))).unwrap();
}
