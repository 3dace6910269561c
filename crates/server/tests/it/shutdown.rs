//! Ending a server: what runs finishes, what runs too long ends with an error, and nothing is left behind.

use std::time::{Duration, Instant};

use http::Method;
use perch_protocol::State;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::script::Script;
use crate::support::{Server, begin, chat_body, events, eventually};

fn slow(text_len: usize) -> Script {
    Script { step_delay: Duration::from_millis(10), ..Script::say(&"x".repeat(text_len)) }
}

#[tokio::test]
async fn what_runs_is_left_to_finish_and_nothing_new_is_taken() {
    let server = Server::start().await;
    server.script("tiny", slow(40));
    let asked = server.chat(json!({}));
    let ended = async {
        eventually("it runs", || server.handle.pool().status().iter().any(|model| model.running > 0)).await;
        server.handle.shutdown(Duration::from_secs(5)).await;
        assert!(TcpStream::connect(server.address()).await.is_err());
    };
    let (answer, ()) = tokio::join!(asked, ended);
    assert_eq!(answer.ok()["choices"][0]["message"]["content"], "x".repeat(40));
    assert!(server.handle.pool().status().is_empty(), "the engine has ended");
    assert_eq!(server.handle.status().borrow().state, State::Stopped);
}

#[tokio::test]
async fn what_runs_too_long_ends_with_an_error_event() {
    let server = Server::start().await;
    server.script("tiny", slow(1500));
    let body = chat_body(json!({"stream": true})).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let path = "/v1/chat/completions";
    let mut open = begin(server.address(), Method::POST, path, &headers, Some(body)).await;
    let mut text = open.next().await.unwrap();
    let whole = tokio::spawn({
        let (address, body) = (server.address(), chat_body(json!({})).to_string().into_bytes());
        async move { crate::support::send(address, Method::POST, path, &headers, Some(body)).await }
    });
    eventually("both run", || server.handle.pool().status()[0].running == 2).await;
    let begun = Instant::now();
    server.handle.shutdown(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    while let Some(more) = open.next().await {
        text.push_str(&more);
    }
    let last: Value = serde_json::from_str(events(&text).last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "model_restarting", "{last}");
    assert!(last["error"]["message"].as_str().unwrap().contains("shutting down"));
    assert_eq!(whole.await.unwrap().error().0, 503);
}

#[tokio::test]
async fn watchers_and_idle_connections_do_not_hold_up_the_end() {
    let server = Server::start().await;
    let _silent = TcpStream::connect(server.address()).await.unwrap();
    let mut watcher = begin(server.address(), Method::GET, "/api/events", &[], None).await;
    assert!(watcher.next().await.unwrap().contains("event: status"));
    let begun = Instant::now();
    server.handle.shutdown(Duration::from_secs(5)).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    while watcher.next().await.is_some() {}
}

#[tokio::test]
async fn a_load_in_progress_does_not_hold_up_the_end() {
    let server = Server::with(|config| config.default_model = Some("tiny".into())).await;
    let waiting = Server::start().await;
    for server in [&server, &waiting] {
        *server.loader.delay.lock().unwrap() = Duration::from_secs(60);
    }
    let asked = waiting.chat(json!({}));
    let ended = async {
        eventually("it loads", || waiting.loads() == 1).await;
        let begun = Instant::now();
        tokio::join!(
            server.handle.shutdown(Duration::from_millis(100)),
            waiting.handle.shutdown(Duration::from_millis(100))
        );
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    };
    let (answer, ()) = tokio::join!(asked, ended);
    assert_eq!(answer.error().0, 503);
}

#[tokio::test]
async fn a_server_that_is_just_dropped_leaves_no_engine_behind() {
    let server = Server::start().await;
    server.chat(json!({"max_tokens": 1})).await.ok();
    let engine = server.handle.pool().all_loaded()[0].engine.watch();
    let address = server.address();
    drop(server);
    // The sender of its states lives as long as the engine's last handle.
    eventually("the engine is gone", || engine.has_changed().is_err()).await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_second_shutdown_waits_for_the_first_and_a_port_can_be_used_again() {
    let server = Server::saying("ok").await;
    server.chat(json!({})).await.ok();
    let port = server.address().port();
    tokio::join!(
        server.handle.shutdown(Duration::from_secs(1)),
        server.handle.shutdown(Duration::from_secs(1))
    );
    let again = Server::with(|config| config.port = port).await;
    again.get("/health").await.ok();
}
