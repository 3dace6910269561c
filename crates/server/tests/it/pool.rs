//! The pool: one load for all who wait, eviction, leases.

use std::time::Duration;

use perch_protocol::ModelState;
use serde_json::json;

use crate::script::Script;
use crate::support::{Server, eventually};

#[tokio::test]
async fn requests_for_a_model_that_loads_wait_for_one_load() {
    let server = Server::saying("ok").await;
    *server.loader.delay.lock().unwrap() = Duration::from_millis(100);
    let answers = futures_util::future::join_all((0..10).map(|_| server.chat(json!({})))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(server.loads(), 1);
}

#[tokio::test]
async fn a_load_that_fails_answers_all_who_wait_and_the_next_request_tries_again() {
    let server = Server::saying("ok").await;
    server.behave("tiny", crate::support::Behaviour::Unsupported);
    *server.loader.delay.lock().unwrap() = Duration::from_millis(100);
    let answers = futures_util::future::join_all((0..5).map(|_| server.chat(json!({})))).await;
    assert!(answers.iter().all(|answer| answer.error().1 == "invalid_model_file"));
    assert_eq!(server.loads(), 1);
    assert_eq!(server.handle.pool().status()[0].state, ModelState::Failed);
    server.script("tiny", Script::say("ok"));
    server.chat(json!({})).await.ok();
}

#[tokio::test]
async fn the_least_recently_used_model_makes_room() {
    let server = Server::with_models(&["a", "b", "c"], |config| config.pool.max_models = 2).await;
    for model in ["a", "b", "a", "c"] {
        server.chat(json!({"model": model, "max_tokens": 1})).await.ok();
    }
    assert_eq!(server.loaded(), ["a", "c"]);
    assert_eq!(server.loads(), 3);
}

#[tokio::test]
async fn a_model_in_use_is_not_evicted_and_whoever_needs_its_place_waits() {
    let server = Server::with_models(&["a", "b"], |config| config.pool.max_models = 1).await;
    server.script("a", Script { step_delay: Duration::from_millis(10), ..Script::say(&"x".repeat(30)) });
    let slow = server.chat(json!({"model": "a"}));
    let other = async {
        eventually("a is loaded", || server.loaded() == ["a"]).await;
        server.chat(json!({"model": "b", "max_tokens": 1})).await.ok();
        assert_eq!(server.loaded(), ["b"]);
    };
    let (slow, ()) = tokio::join!(slow, other);
    assert_eq!(slow.ok()["choices"][0]["message"]["content"], "x".repeat(30), "it was left to finish");
}

#[tokio::test]
async fn whoever_waits_too_long_is_told_to_come_back() {
    let server = Server::with_models(&["a", "b"], |config| {
        config.pool.max_models = 1;
        config.pool.load_timeout = Duration::from_millis(50);
    })
    .await;
    let lease = server.handle.pool().lease(Some("a")).await.unwrap();
    let answer = server.chat(json!({"model": "b"})).await;
    assert_eq!((answer.error().0, answer.error().1.as_str()), (503, "model_loading"));
    assert!(answer.headers.contains_key("retry-after"));
    drop(lease);
    *server.loader.delay.lock().unwrap() = Duration::from_millis(200);
    assert_eq!(server.chat(json!({"model": "b"})).await.error().1, "model_loading");
    // The load went on without those who gave up.
    eventually("b is loaded", || server.loaded() == ["b"]).await;
}

#[tokio::test]
async fn an_idle_model_is_unloaded_and_a_used_one_is_not() {
    let server = Server::with(|config| config.pool.idle_ttl = Some(Duration::from_millis(150))).await;
    let lease = server.handle.pool().lease(Some("tiny")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.loaded(), ["tiny"]);
    drop(lease);
    let expires = server.handle.pool().status()[0].expires_at;
    assert!(expires.is_some());
    eventually("it is unloaded", || server.handle.pool().status().is_empty()).await;
    server.chat(json!({"max_tokens": 1})).await.ok();
    assert_eq!(server.loads(), 2);
}

#[tokio::test]
async fn names_that_mean_one_model_share_its_place() {
    let server = Server::with_models(&["acme/Big"], |config| config.pool.max_models = 1).await;
    for name in ["acme/Big", "acme/big", "Big"] {
        let body = server.chat(json!({"model": name, "max_tokens": 1})).await.ok();
        assert_eq!(body["model"], "acme/Big");
    }
    assert_eq!(server.loads(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_for_many_models_in_few_places_are_all_answered() {
    let models: Vec<String> = (0..5).map(|i| format!("m{i}")).collect();
    let names: Vec<&str> = models.iter().map(String::as_str).collect();
    let server = Server::with_models(&names, |config| config.pool.max_models = 2).await;
    let ask = |i: usize| server.chat(json!({"model": names[i % 5], "max_tokens": 3}));
    let answers = futures_util::future::join_all((0..40).map(ask)).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.ok()["model"], names[i % 5]);
    }
    assert!(server.loaded().len() <= 2);
}

/// Without a rule for it, a model that is asked for again and again before it is idle would keep all others out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_never_idle_lets_others_in_after_a_while() {
    let server = Server::with_models(&["a", "b"], |config| config.pool.max_models = 1).await;
    server.script("a", Script { step_delay: Duration::from_millis(5), ..Script::say(&"x".repeat(40)) });
    let other = std::sync::atomic::AtomicBool::new(false);
    let busy = || async {
        while !other.load(std::sync::atomic::Ordering::SeqCst) {
            server.chat(json!({"model": "a"})).await.ok();
        }
    };
    let late = async {
        eventually("a is loaded", || server.loaded() == ["a"]).await;
        let begun = std::time::Instant::now();
        server.chat(json!({"model": "b", "max_tokens": 1})).await.ok();
        other.store(true, std::sync::atomic::Ordering::SeqCst);
        begun.elapsed()
    };
    let (waited, ..) = tokio::join!(late, busy(), busy(), busy());
    assert!(waited < Duration::from_secs(15), "{waited:?}");
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_the_load_that_others_wait_for() {
    let server = Server::saying("ok").await;
    *server.loader.delay.lock().unwrap() = Duration::from_millis(200);
    let pool = server.handle.pool().clone();
    let first = tokio::spawn(async move { pool.lease(Some("tiny")).await.map(drop) });
    eventually("it loads", || server.loads() == 1).await;
    let second = server.chat(json!({}));
    first.abort();
    second.await.ok();
    assert_eq!(server.loads(), 1);
}

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn memory_is_made_by_evicting_what_is_idle_and_only_if_that_helps() {
    let server =
        Server::with_models(&["a", "b", "huge"], |config| config.pool.memory_limit = Some(10 * MIB)).await;
    server.loader.weights.lock().unwrap().extend([
        ("a".to_owned(), 6 * MIB),
        ("b".to_owned(), 6 * MIB),
        ("huge".to_owned(), 11 * MIB),
    ]);
    for model in ["a", "b", "a"] {
        server.chat(json!({"model": model, "max_tokens": 1})).await.ok();
        assert_eq!(server.loaded(), [model]);
    }
    let refused = server.chat(json!({"model": "huge"})).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (503, "insufficient_memory"));
    assert!(refused.headers.contains_key("retry-after"));
    let message = refused.message();
    for part in ["11.0 MiB of weights", "2.0 KiB of KV", "`memory_limit`, which is 10.0 MiB"] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(server.loaded(), ["a"], "what could not help was left alone");
}

#[tokio::test]
async fn whoever_needs_memory_waits_for_models_in_use() {
    let server = Server::with_models(&["a", "b"], |config| config.pool.memory_limit = Some(10 * MIB)).await;
    *server.loader.weight_bytes.lock().unwrap() = 6 * MIB;
    let lease = server.handle.pool().lease(Some("a")).await.unwrap();
    let waiting = server.chat(json!({"model": "b", "max_tokens": 1}));
    let freeing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(server.loaded(), ["a"]);
        drop(lease);
    };
    let (answer, ()) = tokio::join!(waiting, freeing);
    answer.ok();
    assert_eq!(server.loaded(), ["b"]);
}

#[tokio::test]
async fn keep_alive_of_a_model_wins_over_that_of_all() {
    let server = Server::with_models(&["long", "short"], |config| {
        config.pool.idle_ttl = Some(Duration::from_millis(100));
        let kept = |id: &str, time| perch_server::ModelConfig {
            id: id.to_owned(),
            keep_alive: Some(perch_server::Lifetime(time)),
            ..Default::default()
        };
        config.models = vec![kept("long", None), kept("short", Some(Duration::ZERO))];
    })
    .await;
    for model in ["long", "short"] {
        server.chat(json!({"model": model, "max_tokens": 1})).await.ok();
    }
    eventually("short has left", || server.loaded() == ["long"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(server.loaded(), ["long"]);
    assert_eq!(server.handle.pool().status()[0].expires_at, None);
}

#[tokio::test]
async fn models_with_preload_are_loaded_at_the_start() {
    let server = Server::with_models(&["a", "b", "c"], |config| {
        let preload =
            |id: &str| perch_server::ModelConfig { id: id.to_owned(), preload: true, ..Default::default() };
        config.models = vec![preload("a"), preload("c")];
    })
    .await;
    eventually("both are loaded", || server.loaded() == ["a", "c"]).await;
    assert_eq!(server.loads(), 2);
}

/// `cargo test -p perch-server --release --test it -- --ignored --nocapture a_lease_costs`
#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn a_lease_costs_so_many_nanoseconds() {
    const TIMES: u32 = 200_000;
    let server = Server::start().await;
    let pool = server.handle.pool();
    let _first = pool.lease(Some("tiny")).await.unwrap();
    let begun = std::time::Instant::now();
    for _ in 0..TIMES {
        drop(pool.lease(Some("tiny")).await.unwrap());
    }
    println!(
        "a lease of a loaded model, taken and given back: {} ns",
        begun.elapsed().as_nanos() / u128::from(TIMES)
    );
}
