//! A feed on loopback, an archive and a signature that Tauri's own signer made, and what becomes of them when they are changed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use serde_json::json;
use tauri::test::{MockRuntime, mock_builder, mock_context, noop_assets};

use super::*;

/// A public key; the private one was thrown away. Made with `tauri signer generate`.
const KEY: &str = "dW50cnVzdGVkIGNvbW1lbnQ6IG1pbmlzaWduIHB1YmxpYyBrZXk6IEYxRjRDNkU0RjMzQkJENDcKUldSSHZUdno1TWIwOFNaeXF1aU11VTFyc3ZZZy90bFNzdXZ4YUFJbHBWV0YzRXJZYU1VVitld28K";
/// What `tauri signer sign --app-version 9.9.9` gave for [`ARCHIVE`].
const SIGNATURE: &str = "dW50cnVzdGVkIGNvbW1lbnQ6IHNpZ25hdHVyZSBmcm9tIHRhdXJpIHNlY3JldCBrZXkKUlVSSHZUdno1TWIwOGNFREhCOGpCRW9mSCtVaXpXQ05ZS1RvQ2lZYUJ2S1NHSU5rRnJPNnhmOXFKS2VMbUdzLzk0NzJoNm0xdHdZSCsrNFhaZ1V0OU1ZV0pkS2VReUo2QVFnPQp0cnVzdGVkIGNvbW1lbnQ6IHRpbWVzdGFtcDoxNzk1Mjg2MDAwCWZpbGU6bmV3CXZlcnNpb246OS45LjkKKzV5amx0SVRDMXVzT3ZaV095VnhMYm5MSy9paFNjc3RLOTNxWHZlTzVzRmRkdWJLazdWMmVabVV6bkFnRUU3TTJCTWhzQnluS2E3QlJmMUIrYXBGREE9PQo=";
const ARCHIVE: &str = "a new Perch\n";

/// A feed that announces `version` and serves `archive`; its address.
fn feed(version: &'static str, archive: &'static str) -> &'static str {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let url = format!("{address}/archive");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let body = if String::from_utf8_lossy(&request[..read]).starts_with("GET /archive ") {
                archive.to_owned()
            } else {
                json!({ "version": version, "url": url, "signature": SIGNATURE }).to_string()
            };
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    Box::leak(format!("{address}/latest.json").into_boxed_str())
}

/// An app with the configuration of this one, and its updates from `url`.
fn app(url: &'static str) -> (tauri::App<MockRuntime>, Updates) {
    let conf: serde_json::Value = serde_json::from_str(include_str!("../../tauri.conf.json")).expect("JSON");
    let mut context = mock_context(noop_assets());
    context.config_mut().plugins.0.insert("updater".to_owned(), conf["plugins"]["updater"].clone());
    let feed = Feed { url, key: KEY };
    let app = mock_builder().plugin(feed.plugin()).build(context).expect("an app");
    (app, Updates::new(Some(feed)))
}

/// What is known after asking, and whether what was found passes.
fn outcome(version: &'static str, archive: &'static str) -> (Known, Result<(), String>) {
    let (app, updates) = app(feed(version, archive));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        assert!(updates.begin(Known::Asking));
        updates.ask(app.handle()).await.expect("the feed answers");
        let found = lock(&updates.found).clone();
        let checked = match found {
            Some(update) => update.download(|_, _| {}, || {}).await.map(drop).map_err(|e| e.to_string()),
            None => Ok(()),
        };
        (updates.known(), checked)
    })
}

#[test]
fn a_newer_version_that_is_signed_as_such_passes() {
    assert_eq!(outcome("9.9.9", ARCHIVE), (Known::Newer("9.9.9".into()), Ok(())));
}

#[test]
fn a_changed_archive_is_refused() {
    let (known, checked) = outcome("9.9.9", "another Perch\n");
    assert_eq!(known, Known::Newer("9.9.9".into()));
    assert!(checked.is_err());
}

#[test]
fn a_release_announced_as_a_version_that_it_is_not_signed_for_is_refused() {
    let (_, checked) = outcome("10.0.0", ARCHIVE);
    assert!(checked.is_err_and(|error| error.contains("9.9.9")));
}

#[test]
fn an_older_version_is_no_update() {
    assert_eq!(outcome("0.0.1", ARCHIVE), (Known::Newest, Ok(())));
}

#[test]
fn a_feed_that_does_not_answer_is_told_and_can_be_asked_again() {
    let (app, updates) = app("http://127.0.0.1:9/latest.json");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    assert!(updates.begin(Known::Asking));
    assert!(!updates.begin(Known::Asking), "one question at a time");
    let failed = runtime.block_on(updates.ask(app.handle()));
    assert!(failed.is_err_and(|text| text.starts_with("Updates could not be looked for")));
    assert_eq!(updates.known(), Known::Unasked);
}

#[test]
fn a_build_without_a_feed_asks_nobody() {
    let updates = Updates::new(None);
    assert_eq!(updates.known(), Known::OnTheWeb);
    assert!(!updates.begin(Known::Asking));
}
