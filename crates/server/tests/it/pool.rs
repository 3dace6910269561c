//! The pool: one load for all who wait, eviction, leases.

use std::time::Duration;

use perch_protocol::ModelState;
use serde_json::json;

use crate::script::Script;
use crate::support::{Server, eventually};

fn loaded(server: &Server) -> Vec<String> {
    server.handle.pool().all_loaded().iter().map(|model| model.id.clone()).collect()
}

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
    assert_eq!(loaded(&server), ["a", "c"]);
    assert_eq!(server.loads(), 3);
}

#[tokio::test]
async fn a_model_in_use_is_not_evicted_and_whoever_needs_its_place_waits() {
    let server = Server::with_models(&["a", "b"], |config| config.pool.max_models = 1).await;
    server.script("a", Script { step_delay: Duration::from_millis(10), ..Script::say(&"x".repeat(30)) });
    let slow = server.chat(json!({"model": "a"}));
    let other = async {
        eventually("a is loaded", || loaded(&server) == ["a"]).await;
        server.chat(json!({"model": "b", "max_tokens": 1})).await.ok();
        assert_eq!(loaded(&server), ["b"]);
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
    eventually("b is loaded", || loaded(&server) == ["b"]).await;
}

#[tokio::test]
async fn an_idle_model_is_unloaded_and_a_used_one_is_not() {
    let server = Server::with(|config| config.pool.idle_ttl = Some(Duration::from_millis(150))).await;
    let lease = server.handle.pool().lease(Some("tiny")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(loaded(&server), ["tiny"]);
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
    assert!(loaded(&server).len() <= 2);
}
