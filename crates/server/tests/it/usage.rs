//! `/v1/admin/usage`: counting is off unless somebody says so, and then holds numbers and nothing else.

use http::Method;
use perch_server::{KeyConfig, Scope, UsageConfig};
use serde_json::{Value, json};

use crate::support::{Answer, Server, send};

const ON: UsageConfig = UsageConfig { enabled: true, retention_days: 400 };

async fn counting() -> Server {
    let server = Server::with(|config| config.usage = ON).await;
    server.script("tiny", crate::script::Script::say("four words of answer"));
    server
}

async fn switch(server: &Server, settings: Value) -> Answer {
    let body = json!({"settings": settings}).to_string();
    let headers = [("content-type", "application/json")];
    send(server.address(), Method::PATCH, "/api/settings", &headers, Some(body.into())).await
}

async fn erase(server: &Server) -> Value {
    send(server.address(), Method::DELETE, "/v1/admin/usage", &[], None).await.ok()
}

#[tokio::test]
async fn nothing_is_counted_or_made_unless_somebody_says_so() {
    let server = Server::saying("hello").await;
    server.chat(json!({})).await.ok();
    let report = server.get("/v1/admin/usage").await.ok();
    assert_eq!((&report["enabled"], &report["total"]["requests"]), (&json!(false), &json!(0)));
    assert_eq!(
        (&report["since"], &report["problem"], &report["file_bytes"]),
        (&Value::Null, &Value::Null, &json!(0))
    );
    assert!(!server.data_dir().join("usage.db").exists());
}

#[tokio::test]
async fn it_is_switched_on_and_off_while_the_server_runs() {
    let server = Server::saying("hello").await;
    let on = switch(&server, json!({"usage.enabled": true})).await.ok();
    let setting = |settings: &Value| {
        let all = settings["settings"].as_array().unwrap().clone();
        all.into_iter().find(|setting| setting["key"] == "usage.enabled").unwrap()
    };
    assert_eq!((&setting(&on)["value"], &on["restart_needed"]), (&json!(true), &json!(false)));
    assert_eq!(setting(&on)["variable"], "PERCH_USAGE_ENABLED");
    server.chat(json!({})).await.ok();
    let off = switch(&server, json!({"usage.enabled": false})).await.ok();
    assert_eq!(off["restart_needed"], false);
    server.chat(json!({})).await.ok();
    let report = server.get("/v1/admin/usage").await.ok();
    assert_eq!((&report["enabled"], &report["total"]["requests"]), (&json!(false), &json!(1)));
    let bad = switch(&server, json!({"usage.retention_days": 0})).await.error();
    assert_eq!((bad.0, bad.2.as_deref()), (400, Some("settings.usage.retention_days")));
}

#[tokio::test]
async fn answers_streams_and_errors_are_counted_by_model_and_day() {
    let server = counting().await;
    let usage = server.chat(json!({})).await.ok()["usage"].clone();
    server.chat(json!({"stream": true})).await.chunks();
    assert_eq!(server.chat(json!({"model": "no-such-model"})).await.status, 404);
    assert_eq!(server.chat(json!({"temperature": 99})).await.status, 400);

    let report = server.get("/v1/admin/usage?days=1&by=model").await.ok();
    let rows = report["rows"].as_array().unwrap();
    let tiny = rows.iter().find(|row| row["model"] == "tiny").unwrap();
    assert_eq!((&tiny["requests"], &tiny["completed"]), (&json!(3), &json!(2)), "{report}");
    assert_eq!(tiny["errors"], json!({"invalid_value": 1}));
    let twice = |name: &str| json!(usage[name].as_u64().unwrap() * 2);
    assert_eq!(tiny["prompt_tokens"], twice("prompt_tokens"));
    assert_eq!(tiny["completion_tokens"], twice("completion_tokens"));
    for kind in ["first_token_ms", "duration_ms"] {
        let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| tiny[kind][name].as_u64().unwrap());
        assert!(p50 <= p95 && p95 <= p99, "{tiny}");
    }
    // What a client asked for and nobody has is not written down.
    let unknown = rows.iter().find(|row| row["model"] == "").unwrap();
    assert_eq!(unknown["errors"], json!({"model_not_found": 1}));
    assert_eq!(report["total"]["requests"], 4);
    assert_eq!(report["from"], report["to"]);

    let days = server.get("/v1/admin/usage?model=tiny").await.ok();
    assert_eq!(days["rows"].as_array().unwrap().len(), 1);
    assert_eq!((&days["rows"][0]["day"], &days["rows"][0]["requests"]), (&report["to"], &json!(3)));
    for query in ["days=0", "days=4000", "by=hour", "until=x"] {
        assert_eq!(server.get(&format!("/v1/admin/usage?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn no_word_of_a_request_or_an_answer_reaches_the_disk() {
    let server = counting().await;
    let messages = json!([{"role": "user", "content": "hello secret prompt"}]);
    server.chat(json!({"messages": messages, "user": "secret-user"})).await;
    server.chat(json!({"model": "secret-model"})).await;
    server.get("/v1/admin/usage").await.ok();
    let mut files = 0;
    for name in ["usage.db", "usage.db-wal", "usage.lock"] {
        let Ok(bytes) = std::fs::read(server.data_dir().join(name)) else { continue };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            !text.contains("secret") && !text.contains("words of") && !text.contains("127.0.0.1"),
            "{name}"
        );
        files += 1;
    }
    assert!(files >= 2);
}

#[tokio::test]
async fn counts_are_taken_along_and_erased() {
    let server = counting().await;
    server.chat(json!({})).await.ok();
    let csv = server.get("/v1/admin/usage/export?format=csv").await;
    assert!(csv.headers["content-type"].to_str().unwrap().starts_with("text/csv"));
    assert!(csv.headers["content-disposition"].to_str().unwrap().contains(".csv\""));
    let lines: Vec<&str> = csv.text().lines().collect();
    assert!(lines[0].starts_with("day,model,requests,") && lines[1].contains(",tiny,1,"), "{lines:?}");
    let parquet = server.get("/v1/admin/usage/export?format=parquet&days=7").await;
    assert_eq!((&parquet.body[..4], parquet.status.as_u16()), (&b"PAR1"[..], 200));
    assert_eq!(server.get("/v1/admin/usage/export?format=xlsx").await.error().0, 400);

    assert_eq!(erase(&server).await, json!({"requests": 1, "days": 1}));
    let report = server.get("/v1/admin/usage").await.ok();
    assert_eq!((&report["enabled"], &report["total"]["requests"]), (&json!(true), &json!(0)));
    server.chat(json!({})).await.ok();
    assert_eq!(server.get("/v1/admin/usage").await.ok()["total"]["requests"], 1);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_and_keeps_nobody_from_an_answer() {
    let server = counting().await;
    // A folder in its place: it can be neither read, written nor set aside.
    std::fs::create_dir(server.data_dir().join("usage.db")).unwrap();
    server.chat(json!({})).await.ok();
    let report = server.get("/v1/admin/usage").await.ok();
    assert!(report["problem"].as_str().unwrap().contains("usage.db"), "{report}");
    assert_eq!(server.get("/health").await.status, 200);
    std::fs::remove_dir(server.data_dir().join("usage.db")).unwrap();
    server.chat(json!({})).await.ok();
    assert_eq!(server.get("/v1/admin/usage").await.ok()["problem"], Value::Null);
}

#[tokio::test]
async fn counts_are_there_after_a_restart_and_a_damaged_file_is_set_aside() {
    let server = counting().await;
    server.chat(json!({})).await.ok();
    server.handle.shutdown(std::time::Duration::from_secs(5)).await;
    let file = server.data_dir().join("usage.db");
    assert!(!server.data_dir().join("usage.db-wal").exists(), "what was counted is folded into the file");
    let bytes = std::fs::read(&file).unwrap();
    let start = |folder: &std::path::Path| {
        let mut config = perch_server::Config::new(folder);
        (config.port, config.usage) = (0, ON);
        perch_server::ServerHandle::start(config, server.loader.clone())
    };
    let again = start(server.data_dir()).await.unwrap();
    let report = send(again.address(), Method::GET, "/v1/admin/usage", &[], None).await.ok();
    assert_eq!(report["total"]["requests"], 1);
    again.shutdown(std::time::Duration::from_secs(5)).await;

    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let third = start(server.data_dir()).await.unwrap();
    let report = send(third.address(), Method::GET, "/v1/admin/usage", &[], None).await.ok();
    assert!(report["problem"].as_str().unwrap().contains("damaged"), "{report}");
    let headers = [("content-type", "application/json")];
    let body = crate::support::chat_body(json!({})).to_string();
    send(third.address(), Method::POST, "/v1/chat/completions", &headers, Some(body.into())).await.ok();
    let report = send(third.address(), Method::GET, "/v1/admin/usage", &[], None).await.ok();
    assert_eq!((&report["total"]["requests"], &report["problem"]), (&json!(1), &Value::Null));
    assert_eq!(report["damaged_files"].as_array().unwrap().len(), 1);
    third.shutdown(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_key_for_inference_alone_is_not_enough() {
    let server = Server::with(|config| {
        config.usage = ON;
        let only = |scope| KeyConfig { scopes: vec![scope], ..KeyConfig::all_scopes("k", "") };
        config.keys = vec![
            KeyConfig { key: Some("in".to_owned()), ..only(Scope::Inference) },
            KeyConfig { key: Some("ad".to_owned()), ..only(Scope::Admin) },
        ];
    })
    .await;
    for (method, path) in [
        (Method::GET, "/v1/admin/usage"),
        (Method::GET, "/v1/admin/usage/export"),
        (Method::DELETE, "/v1/admin/usage"),
    ] {
        let asked = |key: &'static str| {
            let headers: Vec<(&str, &str)> = match key {
                "" => vec![],
                key => vec![("authorization", key)],
            };
            let (method, address) = (method.clone(), server.address());
            async move { send(address, method, path, &headers, None).await.status.as_u16() }
        };
        assert_eq!(
            (asked("").await, asked("Bearer in").await, asked("Bearer ad").await),
            (401, 403, 200),
            "{method} {path}"
        );
    }
}
