//! Conversations over HTTP: made, listed, changed, forked, moved; models; and who may.

use http::Method;
use perch_server::{KeyConfig, Scope};
use serde_json::{Value, json};

use super::{begin, contents, delete, patch, say_in, show};
use crate::support::{Server, send};

#[tokio::test]
async fn conversations_are_made_listed_searched_changed_and_deleted() {
    let server = Server::saying("Water and flour.").await;
    let wanted = json!({"title": "Baking", "model": "tiny", "system_prompt": "Be brief.",
        "sampling": {"temperature": 0.5, "max_tokens": 9}, "pinned": true});
    let made = server.post("/api/v1/chat/new", &wanted).await.ok();
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (&made["title"], &made["auto_title"], &made["sampling"]["temperature"]),
        (&json!("Baking"), &json!(false), &json!(0.5))
    );
    let reply = say_in(&server, id, "What is bread made of?").await;
    assert_eq!(
        (&reply["message"]["content"], &reply["message"]["finish_reason"]),
        (&json!("Water and"), &json!("length"))
    );
    let other = begin(&server, "What is tea?").await;
    let list = async |query: &str| server.get(&format!("/api/v1/chat/conversations{query}")).await.ok();
    let ids = |list: &Value| -> Vec<String> {
        let all = list["conversations"].as_array().unwrap().iter();
        all.map(|conversation| conversation["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&list("").await), [other.as_str(), id]);
    assert_eq!(ids(&list("?pinned=true").await), [id]);
    let page = list("?limit=1").await;
    let next = format!("?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(ids(&list(&next).await), [id]);
    let found = list("?q=bread").await;
    assert_eq!(ids(&found), [id]);
    let snippet = found["conversations"][0]["found"]["snippet"].as_array().unwrap();
    assert_eq!(
        snippet.iter().filter(|part| part["matched"] == true).map(|part| &part["text"]).collect::<Vec<_>>(),
        ["bread"]
    );
    for (query, param) in [("?limit=0", "limit"), ("?cursor=x", "cursor")] {
        let answer = server.get(&format!("/api/v1/chat/conversations{query}")).await;
        assert_eq!(answer.error().2.as_deref(), Some(param));
    }
    assert_eq!(server.get("/api/v1/chat/conversations?frobnicate=1").await.error().0, 400);
    for hostile in ["%22", "AND%20OR", "%00", "a*%20(", "%27%3B--", "NEAR(a,b)"] {
        server.get(&format!("/api/v1/chat/conversations?q={hostile}")).await.ok();
    }
    let changed = patch(&server, id, json!({"title": "Bread", "pinned": false, "model": ""})).await.ok();
    assert_eq!(
        (&changed["title"], &changed["pinned"], changed.get("model")),
        (&json!("Bread"), &json!(false), None)
    );
    for (body, param) in [
        (json!({"title": "x".repeat(1 << 20)}), "title"),
        (json!({"title": "a\u{0}"}), "title"),
        (json!({"sampling": {"top_k": -2}}), "sampling.top_k"),
    ] {
        assert_eq!(patch(&server, id, body).await.error().2.as_deref(), Some(param));
    }
    assert_eq!(patch(&server, id, json!({"colour": "red"})).await.error().1, "unsupported_parameter");
    assert_eq!(patch(&server, id, json!({"model": "other"})).await.error().1, "model_not_found");
    delete(&server, id).await.ok();
    assert_eq!(delete(&server, id).await.error().1, "not_found");
    assert_eq!(ids(&list("").await), [other.as_str()]);
}

#[tokio::test]
async fn conversations_are_forked_exported_and_imported() {
    let server = Server::saying("ok").await;
    let id = begin(&server, "first").await;
    say_in(&server, &id, "second").await;
    let detail = show(&server, &id).await;
    let path = |end: &str| format!("/api/v1/chat/conversation/{id}/{end}");
    let fork = server.post(&path("fork"), &json!({"message_id": detail["messages"][1]["id"]})).await.ok();
    assert_eq!(contents(&show(&server, fork["id"].as_str().unwrap()).await), ["first", "ok"]);
    assert_eq!(server.post(&path("fork"), &json!({"message_id": "x"})).await.error().1, "not_found");
    let export = server.get(&path("export")).await;
    assert!(export.headers["content-disposition"].to_str().unwrap().ends_with(&format!("{id}.json\"")));
    let text = export.text().to_owned();
    assert_eq!(server.post_text("/api/v1/chat/import", text.clone()).await.error().1, "conflict");
    let copy = server.post_text("/api/v1/chat/import?copy=true", text.clone()).await.ok();
    assert_ne!(copy["conversations"][0]["id"], json!(id));
    delete(&server, &id).await.ok();
    server.post_text("/api/v1/chat/import", text.clone()).await.ok();
    assert_eq!(server.get(&path("export")).await.text(), text, "nothing is lost on the way");
    let markdown = server.get(&path("export?format=markdown")).await;
    assert!(markdown.headers["content-type"].to_str().unwrap().starts_with("text/markdown"));
    let read = server.post("/api/v1/chat/import", &json!({"markdown": markdown.text()})).await.ok();
    let read = show(&server, read["conversations"][0]["id"].as_str().unwrap()).await;
    assert_eq!(contents(&read), ["first", "ok", "second", "ok"]);
    assert_eq!(server.get(&path("export?format=pdf")).await.error().2.as_deref(), Some("format"));
    let mut bad: Value = serde_json::from_str(&text).unwrap();
    bad["conversations"][0]["conversation"]["sampling"] = json!({"temperature": 9});
    let param = server.post("/api/v1/chat/import", &bad).await.error().2;
    assert_eq!(param.as_deref(), Some("conversations[0].conversation.sampling.temperature"));
    bad["conversations"][0]["conversation"]["mood"] = json!("good");
    assert_eq!(server.post("/api/v1/chat/import", &bad).await.error().1, "unsupported_parameter");
}

#[tokio::test]
async fn models_are_listed_described_and_switched() {
    let server = Server::with_models(&["a", "b"], |_| {}).await;
    let id = server.post("/api/v1/chat/new", &json!({})).await.ok()["id"].as_str().unwrap().to_owned();
    let before = server.get("/api/v1/model-info?model=a").await.ok();
    assert_eq!((&before["id"], &before["loaded"]), (&json!("a"), &Value::Null));
    let switched =
        server.post("/api/v1/chat/switch-model", &json!({"model": "a", "conversation_id": id})).await.ok();
    assert_eq!(
        (&switched["model"]["loaded"], &switched["conversation"]["model"]),
        (&json!(true), &json!("a"))
    );
    server.post("/api/v1/chat/switch-model", &json!({"model": "b"})).await.ok();
    let models = server.get("/api/v1/chat/models").await.ok();
    let loaded: Vec<&Value> = models["models"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["loaded"] == true)
        .map(|m| &m["id"])
        .collect();
    assert_eq!((loaded, &models["current"]), (vec![&json!("a"), &json!("b")], &json!("b")));
    assert_eq!(say_in(&server, &id, "hi").await["message"]["model"], "a");
    let info = server.get("/api/v1/model-info").await.ok();
    assert_eq!(
        (&info["id"], &info["loaded"]["context_length"]),
        (&json!("b"), &json!(crate::fixture::CONTEXT))
    );
    assert_eq!((&info["loaded"]["chat"], &info["loaded"]["tools"]), (&json!(true), &json!(true)));
    assert_eq!(
        server.post("/api/v1/chat/switch-model", &json!({"model": "c"})).await.error().1,
        "model_not_found"
    );
    let missing = json!({"model": "a", "conversation_id": "x"});
    assert_eq!(server.post("/api/v1/chat/switch-model", &missing).await.error().1, "not_found");
    let health = server.get("/api/v1/health").await.ok();
    assert_eq!(health["loaded_models"], json!(["a", "b"]));
}

#[tokio::test]
async fn a_key_that_may_ask_models_may_not_read_what_is_kept() {
    let key = |name: &str, scopes: Vec<Scope>| {
        let key = Some(format!("key-of-{name}-0123456789"));
        KeyConfig { name: name.into(), key, sha256: None, scopes }
    };
    let server = Server::with(|config| {
        config.keys =
            vec![key("app", vec![Scope::Inference]), key("owner", vec![Scope::Inference, Scope::Admin])];
    })
    .await;
    let get = async |path: &str, who: &str| {
        let bearer = format!("Bearer key-of-{who}-0123456789");
        send(server.address(), Method::GET, path, &[("authorization", &bearer)], None).await.status.as_u16()
    };
    for path in ["/api/v1/chat/models", "/api/v1/health"] {
        assert_eq!(get(path, "app").await, 200, "{path}");
    }
    let id = "0".repeat(32);
    for path in [
        "/api/v1/chat/conversations",
        &format!("/api/v1/chat/conversation/{id}"),
        &format!("/api/v1/chat/images/{id}"),
    ] {
        assert_eq!(get(path, "app").await, 403, "{path}");
        assert_ne!(get(path, "owner").await, 403, "{path}");
    }
    assert_eq!(server.get("/api/v1/chat/conversations").await.error().0, 401);
}
