//! `/api/settings`, `/api/logs` and the dashboard's own files.

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, send};

async fn patch(server: &Server, body: Value, key: Option<&str>) -> Answer {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    send(server.address(), Method::PATCH, "/api/settings", &headers, Some(body.to_string().into())).await
}

fn setting<'a>(settings: &'a Value, key: &str) -> &'a Value {
    let all = settings["settings"].as_array().unwrap();
    all.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key} in {settings}"))
}

fn file(server: &Server) -> String {
    std::fs::read_to_string(server.models_dir().with_file_name("config.toml")).unwrap_or_default()
}

#[tokio::test]
async fn every_key_of_the_file_is_a_setting_with_its_default() {
    let server = Server::start().await;
    let settings = server.get("/api/settings").await.ok();
    for key in ["host", "port", "models_dirs", "model", "idle_ttl", "quantize", "kv_budget", "log"] {
        assert_eq!(setting(&settings, key)["source"], "default", "{key}");
    }
    assert_eq!(setting(&settings, "port")["value"], 8080);
    assert_eq!(setting(&settings, "idle_ttl")["value"], "15m");
    assert_eq!(setting(&settings, "port")["variable"], "PERCH_PORT");
    let keys: Vec<&str> =
        settings["settings"].as_array().unwrap().iter().map(|s| s["key"].as_str().unwrap()).collect();
    for secret in ["api_key", "keys", "models", "hf_token"] {
        assert!(!keys.contains(&secret), "{secret}");
    }
}

#[tokio::test]
async fn a_change_is_written_with_the_comments_around_it_and_asks_for_a_restart() {
    let server = Server::start().await;
    let path = server.models_dir().with_file_name("config.toml");
    std::fs::write(&path, "# mine\nmax_models = 3 # three\n").unwrap();
    let changed = patch(&server, json!({"settings": {"max_models": 4, "idle_ttl": "1h"}}), None).await.ok();
    assert_eq!(file(&server), "# mine\nmax_models = 4 # three\nidle_ttl = \"1h\"\n");
    assert_eq!(setting(&changed, "max_models")["source"], "file");
    assert_eq!(setting(&changed, "max_models")["restart_needed"], true);
    assert_eq!(changed["restart_needed"], true);
    let back = patch(&server, json!({"settings": {"max_models": null, "idle_ttl": null}}), None).await.ok();
    assert_eq!(back["restart_needed"], false);
}

#[tokio::test]
async fn what_no_start_would_take_is_refused_and_nothing_is_written() {
    let server = Server::start().await;
    for (body, param) in [
        (json!({"settings": {"port": "x"}}), "settings.port"),
        (json!({"settings": {"max_models": 0}}), "settings.max_models"),
        (json!({"settings": {"prot": 1}}), "settings.prot"),
        (json!({"settings": {"api_key": "k"}}), "settings.api_key"),
        (json!({"settings": {"allowed_origins": ["*"]}}), "settings.allowed_origins"),
        (json!({"add_keys": [{"name": "", "scopes": ["admin"]}]}), "add_keys.0.name"),
    ] {
        let (status, code, named) = patch(&server, body.clone(), None).await.error();
        assert_eq!((status, &*code, named.as_deref()), (400, "invalid_value", Some(param)), "{body}");
    }
    // Together with something good: all or nothing.
    let both = patch(&server, json!({"settings": {"max_models": 4, "port": 70000}}), None).await;
    assert_eq!(both.status, 400);
    // Others could come in without a key.
    let exposed = patch(&server, json!({"settings": {"host": "0.0.0.0"}}), None).await;
    assert_eq!(exposed.error().0, 409);
    assert_eq!(file(&server), "");
}

#[tokio::test]
async fn a_key_counts_from_the_moment_it_is_made_until_it_is_removed() {
    let server = Server::start().await;
    let only = json!({"add_keys": [{"name": "editor", "scopes": ["inference"]}]});
    assert_eq!(patch(&server, only.clone(), None).await.error().0, 409, "nobody could come in any more");
    let admin = json!({"add_keys": [{"name": "me", "scopes": ["inference", "admin"]}]});
    let made = patch(&server, admin, None).await.ok();
    let key = made["created_keys"][0]["key"].as_str().unwrap().to_owned();
    assert!(!file(&server).contains(&key));
    assert_eq!(server.get("/api/status").await.error().0, 401);
    let again = patch(&server, only, Some(&key)).await.ok();
    assert_eq!(again["keys"].as_array().unwrap().len(), 2);
    assert!(!again["keys"].to_string().contains(&key));
    let mine = made["keys"][0]["id"].clone();
    let locked_out = patch(&server, json!({"remove_keys": [mine]}), Some(&key)).await;
    assert_eq!(locked_out.error().0, 409);
    let ids: Vec<Value> = again["keys"].as_array().unwrap().iter().map(|key| key["id"].clone()).collect();
    patch(&server, json!({"remove_keys": ids}), Some(&key)).await.ok();
    server.get("/api/status").await.ok();
}

#[tokio::test]
async fn a_damaged_file_is_said_and_left_alone() {
    let server = Server::start().await;
    let path = server.models_dir().with_file_name("config.toml");
    std::fs::write(&path, "port = = 1").unwrap();
    assert_eq!(server.get("/api/settings").await.error().0, 409);
    assert_eq!(patch(&server, json!({"settings": {"port": 1}}), None).await.error().0, 409);
    assert_eq!(file(&server), "port = = 1");
}

#[tokio::test]
async fn logs_are_a_list_and_a_query_that_nobody_knows_is_named() {
    let server = Server::start().await;
    assert!(server.get("/api/logs?level=warn&limit=5").await.ok()["lines"].is_array());
    for query in ["level=loud", "levl=warn", "after=x"] {
        let answer = server.get(&format!("/api/logs?{query}")).await;
        assert_eq!(answer.error().0, 400, "{query}");
    }
}

#[tokio::test]
async fn the_dashboard_or_how_to_build_it_is_at_the_root_and_needs_no_key() {
    let server = Server::with(|config| {
        config.keys = vec![perch_server::KeyConfig::all_scopes("a", "secret")];
    })
    .await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"));
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"));
    assert_eq!(page.headers["x-frame-options"], "DENY");
    let html = page.text().to_owned();
    for link in html.split('"').filter(|part| part.starts_with("/assets/")) {
        let asset = server.get(link).await;
        assert_eq!(asset.status, 200, "{link}");
        assert!(asset.headers["cache-control"].to_str().unwrap().contains("immutable"));
    }
    if let Some(etag) = page.headers.get("etag") {
        let headers = [("if-none-match", etag.to_str().unwrap())];
        assert_eq!(send(server.address(), Method::GET, "/", &headers, None).await.status, 304);
    }
    assert_eq!(server.get("/assets/none.js").await.error().0, 404);
}
