//! Slow and oversized clients.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Server, begin, eventually};

async fn quick() -> Server {
    Server::with(|config| {
        config.http.header_timeout = Duration::from_millis(300);
        config.http.max_connections = 8;
        config.http.max_body_bytes = 1000;
    })
    .await
}

/// Everything the server sends until it closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await;
    let _ = read.expect("the server must close the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_client_that_drips_headers_is_cut_off() {
    let server = quick().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
    let begun = Instant::now();
    let (mut read, mut write) = stream.split();
    let drip = async {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if write.write_all(b"X-A: b\r\n").await.is_err() {
                break;
            }
        }
    };
    let mut bytes = Vec::new();
    tokio::select! {
        () = drip => panic!("five seconds of dripping were let through"),
        _ = read.read_to_end(&mut bytes) => {}
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off_also_after_a_first_request() {
    let server = quick().await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    assert_eq!(until_closed(&mut silent).await, "");
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_a_timeout() {
    let server = quick().await;
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("request_timeout"), "{text}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_announced_or_not() {
    let server = quick().await;
    let answer = server.complete(json!({"prompt": "x".repeat(2000)})).await;
    assert_eq!((answer.error().0, answer.error().1.as_str()), (413, "payload_too_large"));
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..3 {
        let _ = stream.write_all(format!("190\r\n{}\r\n", " ".repeat(400)).as_bytes()).await;
    }
    let text = until_closed(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
}

#[tokio::test]
async fn too_many_and_too_long_headers_are_refused() {
    let server = quick().await;
    let many: String = (0..200).map(|i| format!("X-{i}: a\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(200 << 10));
    for headers in [many, long] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let request = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let _ = stream.write_all(request.as_bytes()).await;
        let mut first = [0; 12];
        let _ = stream.read_exact(&mut first).await;
        assert_ne!(&first[9..12], b"200");
    }
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn idle_connections_up_to_the_limit_keep_others_out_for_a_moment_only() {
    let server = quick().await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        idle.push(TcpStream::connect(server.address()).await.unwrap());
    }
    let begun = Instant::now();
    assert_eq!(server.get("/health").await.status, 200, "the silent ones are cut off");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn tokens_are_sent_as_they_come_and_silence_is_filled_with_comments() {
    let server = Server::with(|config| config.http.keep_alive = Duration::from_millis(50)).await;
    let script =
        crate::script::Script { step_delay: Duration::from_millis(200), ..crate::script::Script::say("abc") };
    server.script("tiny", script);
    let body = crate::support::chat_body(json!({"stream": true})).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let mut open = begin(server.address(), Method::POST, "/v1/chat/completions", &headers, Some(body)).await;
    let mut pieces = Vec::new();
    while let Some(piece) = open.next().await {
        pieces.push((Instant::now(), piece));
    }
    let at = |text: &str| pieces.iter().find(|(_, piece)| piece.contains(text)).unwrap().0;
    assert!(at("\"c\"") - at("\"a\"") > Duration::from_millis(300), "not all at once");
    assert!(pieces.iter().any(|(_, piece)| piece.starts_with(':')));
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_sequence() {
    let server = Server::start().await;
    let mut model = crate::support::fake();
    model.step_delay = Duration::from_millis(2);
    server.behave("tiny", crate::support::Behaviour::Fake(model));
    let endless = json!({"model": "tiny", "prompt": "hello", "max_tokens": 2000, "ignore_eos": true});
    let headers = [("content-type", "application/json")];
    for stream in [true, false] {
        let mut body = endless.clone();
        body["stream"] = stream.into();
        let address = server.address();
        let asking = tokio::spawn(async move {
            let body = Some(body.to_string().into_bytes());
            let mut open = begin(address, Method::POST, "/v1/completions", &headers, body).await;
            while open.next().await.is_some() {}
        });
        let probe = server.loader.probe.clone();
        eventually("the sequence runs", || probe.sequences() == 1).await;
        asking.abort();
        eventually("the sequence is freed", || probe.sequences() == 0).await;
        let steps = probe.batches().len();
        assert!(steps < 1900, "it did not run to its end");
    }
    let recent = server.get("/api/requests").await.ok();
    assert!(recent["requests"].as_array().unwrap().iter().all(|request| request["outcome"] == "cancelled"));
    assert_eq!(server.get("/api/status").await.ok()["requests"]["active"], 0);
}

#[tokio::test]
async fn a_client_that_stops_reading_is_cut_off_and_its_sequence_freed() {
    let server = Server::with(|config| {
        config.http.write_timeout = Duration::from_millis(300);
        config.pool.max_sequences = 64;
    })
    .await;
    let body = json!({"model": "tiny", "prompt": "hello", "max_tokens": 2000, "ignore_eos": true, "stream": true,
        "n": 16, "logprobs": 20});
    let body = body.to_string();
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let counts = || server.handle.status().borrow().requests;
    eventually("it runs", || counts().active == 1).await;
    eventually("it is given up", || counts().active == 0).await;
    assert_eq!(counts().cancelled, 1);
}
