//! Who may call: hosts, origins, content types, keys and their scopes.

use http::Method;
use perch_server::{KeyConfig, Scope, ServerHandle, StartError};
use serde_json::json;

use crate::support::{Answer, Server, TestLoader, chat_body, send};

async fn post_with(server: &Server, headers: &[(&str, &str)]) -> Answer {
    let body = chat_body(json!({"max_tokens": 1})).to_string().into_bytes();
    send(server.address(), Method::POST, "/v1/chat/completions", headers, Some(body)).await
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn a_site_that_rebinds_its_name_is_refused_on_every_route() {
    let server = Server::start().await;
    for path in ["/v1/models", "/health", "/docs", "/nowhere", "/api/status", "/metrics"] {
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "localhost@evil.example"] {
            let answer = send(server.address(), Method::GET, path, &[("host", host)], None).await;
            assert_eq!(
                (answer.error().0, answer.error().1.as_str()),
                (403, "host_not_allowed"),
                "{path} {host}"
            );
        }
    }
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9999", "[::1]:80"] {
        let answer = send(server.address(), Method::GET, "/health", &[("host", host)], None).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    assert_eq!(server.loads(), 0);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused_before_anything_is_loaded() {
    let server = Server::start().await;
    for origin in
        ["https://evil.example", "null", "http://localhost:1", "http://127.0.0.1.evil.example", "file://"]
    {
        let answer = post_with(&server, &[JSON, ("origin", origin)]).await;
        assert_eq!((answer.error().0, answer.error().1.as_str()), (403, "origin_not_allowed"), "{origin}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
    assert_eq!(server.loads(), 0);
    let own = format!("http://localhost:{}", server.address().port());
    let answer = post_with(&server, &[JSON, ("origin", &own)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["access-control-allow-origin"], own.as_str());
}

#[tokio::test]
async fn a_configured_origin_gets_cors_and_a_preflight_and_no_other_does() {
    let server = Server::with(|config| config.allowed_origins = vec!["app://obsidian.md".into()]).await;
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-stainless-lang"),
        ];
        send(server.address(), Method::OPTIONS, "/v1/chat/completions", &headers, None).await
    };
    let answer = preflight("app://obsidian.md").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], "app://obsidian.md");
    assert!(answer.headers["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains("x-stainless-lang"));
    assert_eq!(preflight("app://other").await.error().1, "origin_not_allowed");
    let answer = post_with(&server, &[JSON, ("origin", "app://obsidian.md")]).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "app://obsidian.md");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
}

/// A form on any site can send text/plain without asking first; JSON it cannot.
#[tokio::test]
async fn a_body_that_is_not_called_json_is_refused() {
    let server = Server::start().await;
    for headers in
        [vec![], vec![("content-type", "text/plain")], vec![("content-type", "application/x-json")]]
    {
        let answer = post_with(&server, &headers).await;
        assert_eq!((answer.error().0, answer.error().1.as_str()), (415, "unsupported_media_type"));
    }
    assert_eq!(post_with(&server, &[("content-type", "Application/JSON; charset=utf-8")]).await.status, 200);
}

#[tokio::test]
async fn keys_open_their_scopes_and_nothing_else() {
    let key = |key: &str, scopes: &[Scope]| KeyConfig {
        scopes: scopes.to_vec(),
        ..KeyConfig::all_scopes("k", key)
    };
    let server = Server::with(|config| {
        config.keys = vec![key("ask", &[Scope::Inference]), key("boss", &[Scope::Inference, Scope::Admin])];
    })
    .await;
    let get = async |path: &str, headers: &[(&str, &str)]| {
        send(server.address(), Method::GET, path, headers, None).await
    };
    for path in ["/health", "/docs", "/redoc", "/openapi.json"] {
        assert_eq!(get(path, &[]).await.status, 200, "{path} needs no key");
    }
    for path in ["/v1/models", "/v1/models/tiny", "/metrics", "/api/status", "/api/requests", "/api/events"] {
        let answer = get(path, &[]).await;
        assert_eq!((answer.error().0, answer.error().1.as_str()), (401, "invalid_api_key"), "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert_eq!(get(path, &[("authorization", "Bearer asx")]).await.status, 401);
        assert_eq!(get(path, &[("authorization", "Basic YXNr")]).await.status, 401);
    }
    for headers in [("authorization", "Bearer ask"), ("authorization", "bearer ask"), ("x-api-key", "ask")] {
        assert_eq!(get("/v1/models", &[headers]).await.status, 200);
        let answer = get("/metrics", &[headers]).await;
        assert_eq!((answer.error().0, answer.error().1.as_str()), (403, "insufficient_scope"));
    }
    assert_eq!(get("/metrics", &[("x-api-key", "boss")]).await.status, 200);
    // Without a key the body is not even read: this one would be an error of its own.
    let answer = server.post_text("/v1/chat/completions", "{").await;
    assert_eq!(answer.error().1, "invalid_api_key");
    // A browser asks without a key whether it may ask.
    let own = format!("http://localhost:{}", server.address().port());
    let headers = [("origin", own.as_str()), ("access-control-request-method", "POST")];
    assert_eq!(
        send(server.address(), Method::OPTIONS, "/v1/chat/completions", &headers, None).await.status,
        200
    );
}

#[tokio::test]
async fn a_server_for_other_machines_does_not_start_without_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = perch_server::Config::new(dir.path());
    (config.host, config.port) = ("0.0.0.0".into(), 0);
    let loader = std::sync::Arc::new(TestLoader::default());
    let refused = ServerHandle::start(config.clone(), loader.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::Exposed { .. }), "{refused}");
    assert!(refused.to_string().contains("api_key"), "{refused}");
    config.keys = vec![KeyConfig::all_scopes("k", "secret")];
    let handle = ServerHandle::start(config, loader).await.unwrap();
    let loopback = format!("127.0.0.1:{}", handle.address().port()).parse().unwrap();
    let answer = send(loopback, Method::GET, "/health", &[], None).await;
    assert_eq!(answer.status, 200, "the address that was called is a host of this server");
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_process_that_has_it() {
    let server = Server::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = perch_server::Config::new(dir.path());
    config.port = server.address().port();
    let taken = ServerHandle::start(config, std::sync::Arc::new(TestLoader::default())).await.unwrap_err();
    let text = taken.to_string();
    assert!(text.contains(&format!("port {}", server.address().port())), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
}
