//! `/openapi.json`, `/docs` and `/redoc`.

use http::Method;

use crate::support::{Server, send};

#[tokio::test]
async fn every_described_route_exists_and_the_description_is_sound() {
    let server = Server::saying("a").await;
    let spec = server.get("/openapi.json").await.ok();
    assert!(spec["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = spec["paths"].as_object().unwrap();
    for (path, methods) in paths {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "tiny" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        // No route does this, and the answer says what it does instead.
        let purge = Method::from_bytes(b"PURGE").unwrap();
        let answer = send(server.address(), purge, &path, &[], None).await;
        assert_eq!(answer.status, 405, "{path}: {}", answer.text());
        let allowed = answer.headers["allow"].to_str().unwrap();
        for method in methods.as_object().unwrap().keys() {
            assert!(allowed.contains(&method.to_uppercase()), "{method} {path}: {allowed}");
        }
    }
    for path in
        ["/v1/models", "/v1/models/{id}", "/v1/chat/completions", "/v1/completions", "/health", "/metrics"]
    {
        assert!(paths.contains_key(path), "{path}");
    }
    let operations = paths.values().flat_map(|methods| methods.as_object().unwrap().values());
    let mut ids: Vec<String> = operations.map(|op| op["operationId"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
    // Every reference leads somewhere.
    let text = spec.to_string();
    for reference in text.split("\"$ref\":\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(spec["components"]["schemas"][name].is_object(), "{name}");
    }
    let chunk = &spec["components"]["schemas"]["ChatChunk"];
    assert!(chunk["properties"]["choices"].is_object());
}

#[tokio::test]
async fn the_pages_are_whole_without_the_network() {
    let server = Server::start().await;
    for page in ["/docs", "/redoc"] {
        let answer = server.get(page).await;
        assert_eq!(answer.status, 200);
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
        let html = answer.text().to_owned();
        assert!(!html.contains("http://") && !html.contains("https://") && !html.contains("//cdn"), "{html}");
        let links = html.split(['"', '\'']).filter(|part| part.starts_with('/') && part.contains('.'));
        for link in links {
            let asset = server.get(link).await;
            assert_eq!(asset.status, 200, "{link}");
            assert!(!asset.body.is_empty());
        }
    }
    let script = server.get("/docs/swagger-ui-bundle.js").await;
    assert_eq!(script.headers["content-encoding"], "gzip");
    assert_eq!(&script.body[..2], [0x1f, 0x8b]);
    assert_eq!(server.get("/docs/other.js").await.error().0, 404);
}
