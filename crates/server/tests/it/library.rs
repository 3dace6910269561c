//! `/local/…`: the models on this machine, over the wire.

use std::fs;

use http::Method;
use serde_json::json;

use crate::fixture;
use crate::support::{Answer, Server, send};

async fn delete(server: &Server, path: &str) -> Answer {
    send(server.address(), Method::DELETE, path, &[], None).await
}

async fn listed(server: &Server) -> Vec<serde_json::Value> {
    let body = server.get("/local/models").await.ok();
    let own = body["models"].as_array().unwrap().iter().filter(|model| model["store"] == "perch");
    own.cloned().collect()
}

#[tokio::test]
async fn a_model_is_listed_with_what_its_files_say_and_what_it_takes() {
    let server = Server::with_models(&["tiny", "acme/big"], |_| {}).await;
    let models = listed(&server).await;
    assert_eq!(models.len(), 2);
    let big = models.iter().find(|model| model["id"] == "acme/big").unwrap();
    assert_eq!((&big["format"], &big["architecture"]), (&json!("safetensors"), &json!("LlamaForCausalLM")));
    assert_eq!((&big["context_length"], &big["chat_template"]), (&json!(fixture::CONTEXT), &json!(true)));
    assert_eq!(
        (&big["loaded"], &big["problem"], &big["verification"]),
        (&json!(false), &json!(null), &json!("unverified"))
    );
    let memory = &big["memory"];
    assert_eq!(memory["context"], fixture::CONTEXT);
    assert!(memory["weight_bytes"].as_u64() > Some(0) && memory["kv_bytes"].as_u64() > Some(0), "{memory}");
    assert!(memory["total_bytes"].as_u64() > memory["weight_bytes"].as_u64());

    let whole = server.get("/local/models/acme/big").await.ok();
    assert_eq!((&whole["id"], &whole["removal"]["dry_run"]), (&json!("acme/big"), &json!(true)));
    assert!(
        whole["tensors"][0]["count"].as_u64() > Some(0) && whole["metadata"]["hidden_size"].is_u64(),
        "{whole}"
    );
    let (status, code, _) = server.get("/local/models/acme/small").await.error();
    assert_eq!((status, code.as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn a_damaged_model_is_listed_with_what_is_wrong() {
    let server = Server::with_models(&["tiny"], |config| {
        fs::write(config.data_dir.join("models/bad.gguf"), "GGUF").unwrap();
    })
    .await;
    let models = listed(&server).await;
    let bad = models.iter().find(|model| model["id"] == "bad").unwrap();
    assert_eq!((&bad["problem"]["code"], &bad["memory"]), (&json!("invalid_model_file"), &json!(null)));
}

#[tokio::test]
async fn when_a_model_was_used_is_told() {
    let server = Server::saying("a").await;
    assert_eq!(listed(&server).await[0]["last_used_at"], json!(null));
    server.chat(json!({})).await.ok();
    let model = &listed(&server).await[0];
    assert_eq!(model["loaded"], true);
    assert!(model["last_used_at"].as_u64() > Some(1_600_000_000_000), "{model}");
}

#[tokio::test]
async fn a_model_in_memory_is_not_deleted_unless_it_may_be_unloaded() {
    let server = Server::saying("a").await;
    server.chat(json!({})).await.ok();
    let plan = delete(&server, "/local/models/tiny?dry_run=true").await.ok();
    assert!(plan["dry_run"] == true && plan["freed_bytes"].as_u64() > Some(1000), "{plan}");
    let (status, code, _) = delete(&server, "/local/models/tiny").await.error();
    assert_eq!((status, code.as_str()), (409, "conflict"));
    assert_eq!(server.loaded(), ["tiny"]);

    let done = delete(&server, "/local/models/tiny?force=true").await.ok();
    assert!(done["items"].as_array().unwrap().iter().all(|item| item["removed"] == true), "{done}");
    assert!(server.loaded().is_empty() && !server.models_dir().join("tiny").exists());
    assert_eq!(delete(&server, "/local/models/tiny").await.error().0, 404);
    assert_eq!(server.get("/v1/models/tiny").await.error().0, 404);
}

#[tokio::test]
async fn what_is_deleted_is_not_guessed_and_unknown_parameters_are_refused() {
    let server = Server::start().await;
    assert_eq!(delete(&server, "/local/models/TINY").await.error().0, 404);
    let (status, code, _) = delete(&server, "/local/models/tiny?really=true").await.error();
    assert_eq!((status, code.as_str()), (400, "invalid_value"));
    assert!(server.models_dir().join("tiny/config.json").exists());
}

#[tokio::test]
async fn an_imported_model_can_be_asked_at_once_with_its_settings() {
    let server = Server::saying("a").await;
    let elsewhere = tempfile::tempdir().unwrap();
    fixture::write_model(&elsewhere.path().join("guest"));
    let path = elsewhere.path().join("guest");
    let request = json!({"source": "path", "path": path, "profile": "fast"});
    let mut dry = request.clone();
    dry["dry_run"] = true.into();
    let report = server.post("/local/import", &dry).await.ok();
    assert_eq!((&report["dry_run"], &report["imported"][0]["id"]), (&json!(true), &json!("guest")));
    assert!(!server.models_dir().join("guest").exists());

    let report = server.post("/local/import", &request).await.ok();
    assert_eq!((&report["imported"][0]["mode"], &report["settings_changed"]), (&json!("link"), &json!(true)));
    assert_eq!(server.get("/v1/models/guest").await.ok()["id"], "guest");
    let settings = fs::read_to_string(server.data_dir().join("models.toml")).unwrap();
    assert!(settings.contains("id = \"guest\"") && settings.contains("max_tokens = 1024"), "{settings}");
    let guest = listed(&server).await.into_iter().find(|model| model["id"] == "guest").unwrap();
    assert_eq!(guest["link_target"], json!(path.canonicalize().unwrap()));

    let done = delete(&server, "/local/models/guest").await.ok();
    assert_eq!(done["freed_bytes"], 0);
    assert!(path.join("model.safetensors").exists());
    assert!(!fs::read_to_string(server.data_dir().join("models.toml")).unwrap().contains("guest"));
}

#[tokio::test]
async fn imports_that_cannot_be_say_why() {
    let server = Server::start().await;
    for (body, param) in [
        (json!({"source": "path"}), "path"),
        (json!({"source": "path", "path": "relative"}), "path"),
        (json!({"source": "path", "path": "/no/such/folder"}), "path"),
        (json!({"source": "path", "path": server.models_dir(), "models": ["nobody"]}), "models"),
    ] {
        let (status, code, named) = server.post("/local/import", &body).await.error();
        assert_eq!((status, code.as_str(), named.as_deref()), (400, "invalid_value", Some(param)), "{body}");
    }
    let report =
        server.post("/local/import", &json!({"source": "path", "path": server.models_dir()})).await.ok();
    assert!(report["skipped"][0]["reason"].as_str().unwrap().contains("already"), "{report}");
}

#[tokio::test]
async fn storage_is_counted_and_a_clean_up_is_a_plan_unless_it_is_told_to_act() {
    let server = Server::with_models(&["tiny"], |_| {}).await;
    let stats = server.get("/local/storage/stats").await.ok();
    let own = stats["stores"].as_array().unwrap().iter().find(|store| store["store"] == "perch").unwrap();
    assert!(
        own["bytes"].as_u64() > Some(1000) && stats["total_bytes"].as_u64() >= own["bytes"].as_u64(),
        "{stats}"
    );
    assert!(stats["free_bytes"].as_u64() > Some(0));

    let link = server.models_dir().join("gone.gguf");
    std::os::unix::fs::symlink("/no/such/file.gguf", &link).unwrap();
    let old = std::process::Command::new("touch").args(["-h", "-t", "202001010000"]).arg(&link).status();
    assert!(old.unwrap().success());
    let kinds = json!({"kinds": ["broken_link"]});
    let plan = server.post("/local/storage/cleanup", &kinds).await.ok();
    let paths = |report: &serde_json::Value| {
        report["items"].as_array().unwrap().iter().map(|i| i["path"].clone()).collect::<Vec<_>>()
    };
    let real = server.models_dir().canonicalize().unwrap().join("gone.gguf");
    assert!(plan["dry_run"] == true && paths(&plan).contains(&json!(real)), "{plan}");
    assert!(link.is_symlink());
    let done = server
        .post("/local/storage/cleanup", &json!({"kinds": ["broken_link"], "dry_run": false}))
        .await
        .ok();
    assert!(paths(&done).contains(&json!(real)) && !link.is_symlink(), "{done}");
    let (status, _, param) = server.post("/local/storage/cleanup", &json!({"kinds": ["file"]})).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("kinds")));
}
