//! Loading, unloading, pinning, the default model, reading the configuration again, rebuilding the engines.

use std::time::{Duration, Instant};

use http::Method;
use perch_server::ModelConfig;
use serde_json::{Value, json};

use crate::script::Script;
use crate::support::{Open, Server, begin, chat_body, events, eventually};

const CHAT: &str = "/v1/chat/completions";

fn slow(text_len: usize) -> Script {
    Script { step_delay: Duration::from_millis(10), ..Script::say(&"x".repeat(text_len)) }
}

/// A stream of `model`, from its first byte on.
async fn stream(server: &Server, model: &str) -> (Open, String) {
    let body = chat_body(json!({"stream": true, "model": model})).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let mut open = begin(server.address(), Method::POST, CHAT, &headers, Some(body)).await;
    let first = open.next().await.unwrap();
    (open, first)
}

/// The data of its last event.
async fn last_event((mut open, mut text): (Open, String)) -> String {
    while let Some(more) = open.next().await {
        text.push_str(&more);
    }
    events(&text).pop().unwrap()
}

#[tokio::test]
async fn a_model_is_loaded_and_unloaded_by_request() {
    let server = Server::start().await;
    let status = server.post("/api/v1/load-model", &json!({"model": "TINY", "keep_alive": "5m"})).await.ok();
    assert_eq!((&status["id"], &status["state"]), (&json!("tiny"), &json!("ready")));
    assert_eq!(server.loads(), 1);
    server.chat(json!({})).await.ok();
    assert_eq!(server.loads(), 1, "the request found it loaded");

    let unload = json!({"model": "tiny"});
    let done = server.post("/api/v1/unload-model", &unload).await.ok();
    assert_eq!(done, json!({"model": "tiny", "unloaded": true}));
    assert_eq!(server.loader.memory.held(), 0);
    let again = server.post("/api/v1/unload-model", &unload).await.ok();
    assert_eq!(again["unloaded"], false);
    for path in ["/api/v1/load-model", "/api/v1/unload-model", "/api/v1/pin-model", "/api/v1/unpin-model"] {
        let answer = server.post(path, &json!({"model": "nobody"})).await;
        assert_eq!(answer.error(), (404, "model_not_found".into(), Some("model".into())), "{path}");
        assert_eq!(server.post(path, &json!({"model": ""})).await.error().0, 400, "{path}");
        assert_eq!(server.post(path, &json!({"name": "tiny"})).await.error().0, 400, "{path}");
    }
    let bad = server.post("/api/v1/load-model", &json!({"model": "tiny", "keep_alive": "soon"})).await;
    assert_eq!(bad.error(), (400, "invalid_value".into(), Some("keep_alive".into())));
}

#[tokio::test]
async fn keep_alive_of_a_load_holds_for_that_visit() {
    let server = Server::start().await;
    server.post("/api/v1/load-model", &json!({"model": "tiny", "keep_alive": 0})).await.ok();
    eventually("it has left", || server.loaded().is_empty()).await;
    server.post("/api/v1/load-model", &json!({"model": "tiny", "keep_alive": -1})).await.ok();
    assert_eq!(server.handle.pool().status()[0].expires_at, None);
    server.post("/api/v1/unload-model", &json!({"model": "tiny"})).await.ok();
    server.chat(json!({"max_tokens": 1})).await.ok();
    eventually("it is idle", || server.handle.pool().status()[0].expires_at.is_some()).await;
}

#[tokio::test]
async fn a_model_in_use_is_unloaded_only_if_that_was_said() {
    let server = Server::start().await;
    server.script("tiny", slow(60));
    let running = stream(&server, "tiny").await;
    let refused = server.post("/api/v1/unload-model", &json!({"model": "tiny"})).await;
    assert_eq!(refused.error(), (409, "conflict".into(), Some("model".into())));
    assert!(refused.message().contains("used by a request"), "{}", refused.message());
    let body = json!({"model": "tiny", "in_use": "wait"});
    let (end, waited) = tokio::join!(last_event(running), server.post("/api/v1/unload-model", &body));
    assert_eq!(end, "[DONE]");
    assert_eq!(waited.ok()["unloaded"], true);
    assert!(server.loaded().is_empty());

    server.script("tiny", slow(1500));
    let running = stream(&server, "tiny").await;
    let body = json!({"model": "tiny", "in_use": "cancel"});
    assert_eq!(server.post("/api/v1/unload-model", &body).await.ok()["unloaded"], true);
    let last: Value = serde_json::from_str(&last_event(running).await).unwrap();
    assert_eq!(last["error"]["code"], "model_restarting", "{last}");
    // Loaded anew at once; the old request's end changes nothing for the new one.
    server.script("tiny", Script::say("ok"));
    server.chat(json!({})).await.ok();
    assert_eq!(server.handle.pool().status()[0].in_use, 0);
}

#[tokio::test]
async fn a_pinned_model_keeps_its_place_until_it_is_unpinned() {
    let server = Server::with_models(&["a", "b"], |config| {
        config.pool.max_models = 1;
        config.pool.idle_ttl = Some(Duration::from_millis(50));
    })
    .await;
    let pinned = server.post("/api/v1/pin-model", &json!({"model": "a"})).await.ok();
    assert_eq!(pinned, json!({"model": "a", "pinned": true}));
    assert_eq!(server.loads(), 0, "a pin loads nothing");
    server.chat(json!({"model": "a", "max_tokens": 1})).await.ok();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(server.loaded(), ["a"]);
    assert!(server.handle.pool().status()[0].pinned);
    let begun = Instant::now();
    let refused = server.chat(json!({"model": "b"})).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (409, "conflict"));
    assert!(refused.message().contains("`a` is pinned"), "{}", refused.message());
    assert!(begun.elapsed() < Duration::from_secs(1), "it is told at once");

    let choices: Value =
        serde_json::from_slice(&std::fs::read(server.data_dir().join("choices.json")).unwrap()).unwrap();
    assert_eq!(choices["pins"], json!({"a": true}));
    server.post("/api/v1/unpin-model", &json!({"model": "a"})).await.ok();
    server.chat(json!({"model": "b", "max_tokens": 1})).await.ok();
}

#[tokio::test]
async fn the_default_is_what_is_configured_or_chosen_or_alone_or_newest() {
    let server = Server::start().await;
    let now = || async { server.get("/api/default-model").await.ok() };
    assert_eq!(now().await, json!({"model": "tiny", "source": "only"}));
    crate::fixture::write_model(&server.models_dir().join("later"));
    let later = std::time::SystemTime::now() + Duration::from_secs(60);
    let weights = std::fs::File::options()
        .append(true)
        .open(server.models_dir().join("later/model.safetensors"))
        .unwrap();
    weights.set_modified(later).unwrap();
    server.handle.pool().refresh();
    assert_eq!(now().await, json!({"model": "later", "source": "newest"}));
    let ask = json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1});
    assert_eq!(server.post(CHAT, &ask).await.ok()["model"], "later");
    assert!(server.handle.pool().status()[0].default);

    let chosen = server.put("/api/default-model", &json!({"model": "TINY"})).await.ok();
    assert_eq!(chosen, json!({"model": "tiny", "source": "chosen"}));
    assert_eq!(server.post(CHAT, &ask).await.ok()["model"], "tiny");
    assert_eq!(server.put("/api/default-model", &json!({"model": "nobody"})).await.error().0, 404);
    // What was chosen is gone: the next best answers.
    std::fs::remove_dir_all(server.models_dir().join("tiny")).unwrap();
    server.handle.pool().unload("tiny", Default::default()).await.unwrap();
    server.handle.pool().refresh();
    assert_eq!(now().await, json!({"model": "later", "source": "only"}));
    let forgotten = server.put("/api/default-model", &json!({"model": null})).await.ok();
    assert_eq!(forgotten["source"], "only");

    let told = Server::with_models(&["a", "b"], |config| config.default_model = Some("a".into())).await;
    assert_eq!(told.get("/api/default-model").await.ok(), json!({"model": "a", "source": "configured"}));
    let refused = told.put("/api/default-model", &json!({"model": "b"})).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (409, "conflict"));
}

#[tokio::test]
async fn reading_again_takes_over_what_has_changed_and_leaves_alone_what_is_in_use() {
    let server = Server::start().await;
    let write = |text: &str| std::fs::write(server.data_dir().join("models.toml"), text).unwrap();
    server.script("tiny", slow(40));
    let running = stream(&server, "tiny").await;
    write(
        "[[models]]\nid = \"tiny\"\ncontext = 64\naliases = [\"small\"]\n[[models]]\nid = \"copy\"\nrepo = \"tiny\"\n",
    );
    let reloaded = server.post("/v1/admin/reload", &json!({})).await.ok();
    assert_eq!(reloaded["outdated"], json!(["tiny"]));
    assert_eq!((&reloaded["models"], &reloaded["added"]), (&json!(2), &json!(["copy"])));
    assert!(server.handle.pool().status()[0].outdated);
    assert_eq!(last_event(running).await, "[DONE]");
    eventually("it is unloaded", || server.loaded().is_empty()).await;
    server.script("tiny", Script::say("ok"));
    server.chat(json!({"model": "small"})).await.ok();
    assert_eq!(server.get("/v1/models/small").await.ok()["context_length"], 64);

    // What needs no other engine holds at once.
    write("[[models]]\nid = \"tiny\"\ncontext = 64\ndefaults.max_tokens = 1\n");
    let reloaded = server.post("/v1/admin/reload", &json!({})).await.ok();
    assert_eq!(reloaded["outdated"], json!([]));
    let loads = server.loads();
    assert_eq!(server.chat(json!({})).await.ok()["usage"]["completion_tokens"], 1);
    assert_eq!(server.loads(), loads);
    assert_eq!(server.chat(json!({"model": "small"})).await.error().0, 404);
}

#[tokio::test]
async fn a_damaged_file_changes_nothing_and_is_named() {
    let server = Server::start().await;
    let write = |text: &str| std::fs::write(server.data_dir().join("models.toml"), text).unwrap();
    write("[[models]]\nid = \"tiny\"\naliases = [\"small\"]\n");
    server.post("/v1/admin/reload", &json!({})).await.ok();
    server.chat(json!({"model": "small"})).await.ok();
    for (damaged, what) in [
        ("[[models]]\nid = \"tiny\"\nalias = [\"a\"]\n", "line 3"),
        ("[[models]]\nid = \"tiny\"\ncontext = 0\n", "models.tiny.context"),
        ("[[models", "line 1"),
    ] {
        write(damaged);
        for path in ["/v1/admin/reload", "/v1/admin/restart"] {
            let answer = server.post(path, &json!({})).await;
            assert_eq!((answer.error().0, answer.error().1.as_str()), (400, "invalid_value"), "{path}");
            let message = answer.message();
            assert!(message.contains(what) && message.contains("nothing was changed"), "{message}");
        }
        server.chat(json!({"model": "small"})).await.ok();
    }
    assert_eq!(server.loads(), 1);
}

#[tokio::test]
async fn a_restart_lets_streams_end_and_builds_every_engine_anew() {
    let server = Server::with_models(&["tiny", "other"], |_| {}).await;
    server.script("tiny", slow(60));
    server.chat(json!({"model": "other", "max_tokens": 1})).await.ok();
    let running = stream(&server, "tiny").await;
    let nothing = json!({});
    let restart = server.post("/v1/admin/restart", &nothing);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let refused = server.post("/v1/admin/restart", &json!({})).await;
        assert_eq!(refused.error().1, "conflict");
        server.chat(json!({"model": "other", "max_tokens": 1})).await.ok();
    };
    let (answer, end, ()) = tokio::join!(restart, last_event(running), meanwhile);
    assert_eq!(end, "[DONE]");
    assert_eq!(answer.ok(), json!({"loading": ["other", "tiny"], "cancelled": 0}));
    eventually("both are back", || server.loaded() == ["other", "tiny"]).await;
    assert_eq!(server.loads(), 4);
}

#[tokio::test]
async fn a_stream_that_outlasts_a_restart_ends_with_an_error() {
    let server = Server::start().await;
    server.script("tiny", slow(1900));
    let running = stream(&server, "tiny").await;
    let nothing = json!({});
    let (answer, end) = tokio::join!(server.post("/v1/admin/restart", &nothing), last_event(running));
    let last: Value = serde_json::from_str(&end).unwrap();
    assert_eq!(last["error"]["code"], "model_restarting", "{last}");
    assert_eq!(answer.ok()["cancelled"], 1);
    server.script("tiny", Script::say("ok"));
    server.post("/api/v1/unload-model", &json!({"model": "tiny", "in_use": "cancel"})).await.ok();
    server.chat(json!({})).await.ok();
}

#[tokio::test]
async fn what_is_configured_for_a_model_counts_where_a_request_says_nothing() {
    let server = Server::with(|config| {
        config.models = vec![ModelConfig {
            id: "tiny".into(),
            system: Some("Be brief.".into()),
            chat_template_kwargs: json!({"enable_thinking": false}).as_object().unwrap().clone(),
            aliases: vec!["claude-*".into(), "claude-*-haiku".into()],
            ..Default::default()
        }];
    })
    .await;
    let prompt = |fields: Value| {
        let server = &server;
        async move { server.chat(fields).await.ok()["usage"]["prompt_tokens"].as_u64().unwrap() }
    };
    // One token for each byte, and one for each special token.
    let message = |role: &str, text: &str| 1 + role.len() + 1 + text.len() + 1 + 1;
    let opening = 1 + "assistant\n".len();
    let unthinking = 1 + 2 + 1 + 2;
    let one = json!({"max_tokens": 1});
    let full = message("system", "Be brief.") + message("user", "hi") + opening + unthinking;
    assert_eq!(prompt(one.clone()).await, full as u64);
    let own = json!({"max_tokens": 1, "messages": [{"role": "system", "content": "No."}, {"role": "user", "content": "hi"}]});
    let with_own = message("system", "No.") + message("user", "hi") + opening + unthinking;
    assert_eq!(prompt(own).await, with_own as u64);
    let thinking = json!({"max_tokens": 1, "chat_template_kwargs": {"enable_thinking": true}});
    assert_eq!(prompt(thinking).await, (full - unthinking) as u64);
    let effort = json!({"max_tokens": 1, "reasoning_effort": "high"});
    assert_eq!(prompt(effort).await, (full - unthinking) as u64);

    let body = server.chat(json!({"model": "claude-sonnet-5", "max_tokens": 1})).await.ok();
    assert_eq!(body["model"], "tiny");
    assert_eq!(server.chat(json!({"model": "gpt-5"})).await.error().0, 404);
}
