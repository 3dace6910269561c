//! Clients that go away: what they had asked for must not go on.

use std::time::Duration;

use perch_tests::{RandomModel, write_config};
use serde_json::json;

#[test]
fn a_dropped_connection_frees_its_sequence() {
    let server = RandomModel("small:q4_0").home("m").serve(["--model", "m"]);
    let api = server.api();
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 4000, "stream": true
    });
    let mut events = api.stream("/v1/chat/completions", &body);
    events.next().expect("a first event");
    let running = |status: &serde_json::Value| status["models"][0]["running"].as_u64();
    api.until(Duration::from_secs(5), "the request runs", |status| running(status) == Some(1));
    drop(events);
    api.until(Duration::from_secs(2), "its sequence is freed", |status| running(status) == Some(0));
    let status = api.get("/api/status").json();
    assert_eq!(status["requests"]["cancelled"], 1, "{status:#}");
}

#[test]
fn a_client_that_goes_away_while_its_request_waits_leaves_the_queue() {
    let perch = RandomModel("small:q4_0").home("m");
    write_config(&perch, "max_sequences = 1\n");
    let server = perch.serve(["--model", "m"]);
    let api = server.api();
    let body = |stream: bool| json!({"model": "m", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 4000, "stream": stream});
    let mut first = api.stream("/v1/chat/completions", &body(true));
    first.next().expect("a first event");
    let waiting = |status: &serde_json::Value| status["models"][0]["waiting"].as_u64();
    // A client that gives up: it sends its request and closes.
    let text = body(false).to_string();
    let address = server.url.trim_start_matches("http://").to_string();
    let mut second = std::net::TcpStream::connect(&address).unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    );
    std::io::Write::write_all(&mut second, request.as_bytes()).unwrap();
    api.until(Duration::from_secs(5), "the second request waits", |status| waiting(status) == Some(1));
    drop(second);
    api.until(Duration::from_secs(3), "it has left the queue", |status| waiting(status) == Some(0));
}
