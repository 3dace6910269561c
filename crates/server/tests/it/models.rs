//! `GET /v1/models` and `GET /v1/models/{id}`.

use perch_server::ModelConfig;
use serde_json::json;

use crate::support::Server;

fn ids(body: &serde_json::Value) -> Vec<String> {
    body["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn models_are_listed_and_found_by_ids_with_slashes() {
    let server = Server::with_models(&["tiny", "acme/big"], |_| {}).await;
    let body = server.get("/v1/models").await.ok();
    assert_eq!(body["object"], "list");
    let ids = ids(&body);
    assert!(ids.contains(&"tiny".to_owned()) && ids.contains(&"acme/big".to_owned()), "{ids:?}");
    for path in ["/v1/models/acme/big", "/v1/models/acme%2Fbig"] {
        let model = server.get(path).await.ok();
        assert_eq!(model["id"], "acme/big");
        assert_eq!(model["object"], "model");
        assert_eq!(model["owned_by"], "acme");
        assert!(model["created"].as_u64().unwrap() > 0);
        assert_eq!(model["loaded"], false);
    }
    let (status, code, param) = server.get("/v1/models/acme/small").await.error();
    assert_eq!((status, code.as_str(), param.as_deref()), (404, "model_not_found", Some("model")));
}

#[tokio::test]
async fn a_loaded_model_tells_its_context() {
    let server = Server::saying("a").await;
    server.chat(json!({})).await.ok();
    let model = server.get("/v1/models/tiny").await.ok();
    assert_eq!(model["loaded"], true);
    assert_eq!(model["context_length"], crate::fixture::CONTEXT);
}

#[tokio::test]
async fn configured_models_have_their_own_ids_aliases_and_settings() {
    let server = Server::with(|config| {
        let path = config.data_dir.join("models/tiny");
        config.models = vec![
            ModelConfig {
                id: "mine".into(),
                path: Some(path),
                aliases: vec!["gpt-4o".into()],
                ..Default::default()
            },
            ModelConfig {
                id: "copy".into(),
                repo: Some("tiny".into()),
                context: Some(64),
                ..Default::default()
            },
            ModelConfig { id: "tiny".into(), enabled: Some(false), ..Default::default() },
        ];
    })
    .await;
    let ids = ids(&server.get("/v1/models").await.ok());
    assert!(
        ids.contains(&"mine".into()) && ids.contains(&"copy".into()) && !ids.contains(&"tiny".into()),
        "{ids:?}"
    );
    assert_eq!(server.chat(json!({"model": "gpt-4o", "max_tokens": 2})).await.ok()["model"], "mine");
    assert_eq!(server.get("/v1/models/gpt-4o").await.ok()["id"], "mine");
    let (status, code, _) = server.chat(json!({"model": "tiny"})).await.error();
    assert_eq!((status, code.as_str()), (404, "model_not_found"));
    let too_long =
        server.chat(json!({"model": "copy", "messages": [{"role": "user", "content": "x".repeat(80)}]}));
    assert_eq!(too_long.await.error().1, "context_length_exceeded");
}

#[tokio::test]
async fn a_default_model_given_by_its_path_is_listed_by_its_name() {
    let elsewhere = tempfile::tempdir().unwrap();
    crate::fixture::write_model(&elsewhere.path().join("outside"));
    let path = elsewhere.path().join("outside").display().to_string();
    let server = Server::with(|config| config.default_model = Some(path)).await;
    assert!(ids(&server.get("/v1/models").await.ok()).contains(&"outside".to_owned()));
    let body = json!({"prompt": "a", "max_tokens": 1});
    assert_eq!(server.post("/v1/completions", &body).await.ok()["model"], "outside");
    // A path in a request is no name.
    let body = json!({"model": elsewhere.path().join("outside"), "prompt": "a"});
    assert_eq!(server.post("/v1/completions", &body).await.error().0, 404);
}

/// Nothing is remembered of the disk: what is copied in is there.
#[tokio::test]
async fn a_model_that_was_just_copied_in_is_there() {
    let server = Server::start().await;
    assert_eq!(server.chat(json!({"model": "late"})).await.error().0, 404);
    crate::fixture::write_model(&server.models_dir().join("late"));
    assert_eq!(server.chat(json!({"model": "late", "max_tokens": 1})).await.ok()["model"], "late");
}
