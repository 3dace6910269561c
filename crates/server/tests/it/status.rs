//! `/health`, `/api/status`, `/api/events`, `/api/requests`, `/metrics`.

use std::time::Duration;

use http::Method;
use perch_engine::testing::{FakeModel, Fault};
use perch_protocol::{State, Status};
use serde_json::json;

use crate::script::Script;
use crate::support::{Behaviour, Server, begin, eventually, fake};

#[tokio::test]
async fn health_fails_when_answers_would() {
    let server = Server::with(|config| config.default_model = Some("tiny".into())).await;
    assert_eq!(server.get("/health").await.ok()["status"], "ok");
    server.chat(json!({"max_tokens": 1})).await.ok();
    // A model that fails whenever it runs is given up in the end.
    let broken = Server::start().await;
    let faults = (0..100).map(|pass| (pass, Fault::Fatal)).collect();
    broken.behave("tiny", Behaviour::Fake(FakeModel { faults, ..fake() }));
    assert_eq!(broken.get("/health").await.status, 200, "nothing is loaded, nothing is broken");
    // It is built again after each failure, and tried; the pause before that doubles each time.
    let health = loop {
        assert_eq!(broken.chat(json!({})).await.error().0, 503);
        let health = broken.get("/health").await;
        if health.status == 503 {
            break health;
        }
    };
    assert_eq!(health.json()["status"], "error");
    assert!(health.json()["error"]["message"].as_str().unwrap().contains("scripted"));
    assert_eq!(broken.get("/api/status").await.ok()["state"], "error");
}

#[tokio::test]
async fn health_fails_when_the_default_model_cannot_be_loaded() {
    let dir = tempfile::tempdir().unwrap();
    crate::fixture::write_model(&dir.path().join("models/tiny"));
    std::fs::write(dir.path().join("models/tiny/tokenizer.json"), "{}").unwrap();
    let mut config = perch_server::Config::new(dir.path());
    (config.port, config.default_model) = (0, Some("tiny".into()));
    let loader = std::sync::Arc::new(crate::support::TestLoader::default());
    let handle = perch_server::ServerHandle::start(config, loader).await.unwrap();
    let mut status = handle.status();
    let broken = status.wait_for(|status| status.state == State::Error);
    let broken = tokio::time::timeout(Duration::from_secs(5), broken).await.unwrap().unwrap().clone();
    assert_eq!(broken.error.unwrap().code, "invalid_model_file");
    let answer = crate::support::send(handle.address(), Method::GET, "/health", &[], None).await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn watchers_see_a_request_come_and_go() {
    let server = Server::start().await;
    server.script("tiny", Script { step_delay: Duration::from_millis(10), ..Script::say(&"x".repeat(50)) });
    let mut status = server.handle.status();
    assert_eq!(status.borrow().state, State::Idle);
    assert_eq!(status.borrow().url.as_deref(), Some(&*server.handle.url()));
    let seen = async {
        let active = |status: &Status| status.state == State::Active && status.requests.active == 1;
        let active = tokio::time::timeout(Duration::from_secs(5), status.wait_for(active)).await.unwrap();
        assert_eq!(active.unwrap().models[0].id, "tiny");
        let idle = |status: &Status| status.state == State::Idle && status.requests.completed == 1;
        let idle = tokio::time::timeout(Duration::from_secs(5), status.wait_for(idle))
            .await
            .unwrap()
            .unwrap()
            .clone();
        assert!(idle.resources.unwrap().memory_bytes > 1 << 20);
        assert_eq!(idle.models[0].context_length, Some(crate::fixture::CONTEXT));
    };
    let (answer, ()) = tokio::join!(server.chat(json!({})), seen);
    answer.ok();
}

#[tokio::test]
async fn events_begin_with_the_status_and_go_on_with_changes() {
    let server = Server::saying("ok").await;
    let mut open = begin(server.address(), Method::GET, "/api/events", &[], None).await;
    assert_eq!(open.response.headers()["content-type"], "text/event-stream");
    let first = open.next().await.unwrap();
    let data = first.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let status: Status = serde_json::from_str(data).unwrap();
    assert_eq!((status.state, status.models.len()), (State::Idle, 0));
    server.chat(json!({})).await.ok();
    let mut text = String::new();
    while !text.contains("\"completed\":1") {
        text.push_str(&open.next().await.unwrap());
    }
}

#[tokio::test]
async fn recent_requests_tell_numbers_and_outcomes_but_no_texts() {
    let server = Server::saying("secret answer").await;
    let answer = server.chat(json!({"messages": [{"role": "user", "content": "secret question"}]})).await;
    server.chat(json!({"model": "nope"})).await;
    server.chat(json!({"messages": [{"role": "user", "content": "x".repeat(3000)}]})).await;
    eventually("all are booked", || server.handle.status().borrow().requests.active == 0).await;
    let list = server.get("/api/requests").await;
    assert!(!list.text().contains("secret"));
    let requests = list.ok()["requests"].as_array().unwrap().clone();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0]["outcome"]["failed"], "context_length_exceeded");
    assert_eq!(requests[1]["outcome"]["failed"], "model_not_found");
    let first = &requests[2];
    assert_eq!(first["outcome"], "completed");
    assert_eq!(first["id"], answer.headers["x-request-id"].to_str().unwrap());
    assert_eq!((&first["model"], &first["route"]), (&json!("tiny"), &json!("/v1/chat/completions")));
    assert_eq!(first["completion_tokens"], "secret answer".len() + 1);
    assert!(first["first_token_ms"].is_u64());
}

#[tokio::test]
async fn metrics_are_openmetrics_with_bounded_labels() {
    let server = Server::saying("abc").await;
    server.chat(json!({})).await.ok();
    server.get("/made/up/path").await;
    let answer = server.get("/metrics").await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    for line in [
        "perch_generations_total{model=\"tiny\",outcome=\"completed\"} 1",
        "perch_tokens_total{model=\"tiny\",kind=\"completion\"} 4",
        "perch_http_requests_total{method=\"POST\",route=\"/v1/chat/completions\",status=\"200\"} 1",
        "perch_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "perch_models_loaded 1",
        "perch_requests_waiting{model=\"tiny\"} 0",
        "perch_time_to_first_token_seconds_count{model=\"tiny\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("made"), "what a client makes up is no label");
    assert_eq!(text.matches("# EOF").count(), 1);
    assert!(text.ends_with("# EOF\n"));
}
