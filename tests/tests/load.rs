//! Many clients at once, and clients that go away.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use perch_tests::{RandomModel, Server, write_config};
use serde_json::json;

const CLIENTS: usize = 200;

/// Statuses of 200 clients that ask at the same moment, and the times that `/health` took meanwhile.
fn stampede(server: &Server) -> (Vec<u16>, Vec<Duration>) {
    let api = server.api();
    assert_eq!(api.chat("m", "warm up", 2).status, 200);
    let (barrier, done) = (Barrier::new(CLIENTS + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let (api, barrier) = (&api, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let answer = api.chat("m", &format!("Client {n} asks."), 24);
                    if answer.status == 429 {
                        let seconds = answer.header("retry-after").expect("a 429 says when to come again");
                        assert!(seconds.parse::<u64>().expect("seconds") >= 1);
                        assert_eq!(answer.error_code(), "queue_full");
                    } else {
                        let usage = &answer.json()["usage"]["completion_tokens"];
                        assert_eq!(usage, 24, "{}", answer.text);
                    }
                    answer.status
                })
            })
            .collect();
        let health = scope.spawn(|| {
            barrier.wait();
            let mut times = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                assert_eq!(api.get("/health").status, 200);
                times.push(start.elapsed());
                thread::sleep(Duration::from_millis(5));
            }
            times
        });
        let statuses = clients.into_iter().map(|client| client.join()).collect::<Vec<_>>();
        done.store(true, Ordering::Relaxed);
        let times = health.join().expect("health was asked for");
        (statuses.into_iter().map(|status| status.expect("a client was answered")).collect(), times)
    })
}

#[test]
fn two_hundred_clients_at_once_are_all_answered_while_health_stays_quick() {
    let server = RandomModel::TINY.home("m").serve(["--model", "m"]);
    let (statuses, mut health) = stampede(&server);
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    health.sort_unstable();
    let worst = *health.last().expect("health was asked for");
    assert!(
        worst < Duration::from_millis(100),
        "health took {worst:?}; median {:?}",
        health[health.len() / 2]
    );
}

#[test]
fn a_full_queue_is_answered_with_429_and_when_to_come_again() {
    let perch = RandomModel::TINY.home("m");
    write_config(&perch, "queue_limit = 8\nmax_sequences = 4\n");
    let (statuses, _) = stampede(&perch.serve(["--model", "m"]));
    let count = |status: u16| statuses.iter().filter(|&&s| s == status).count();
    assert_eq!(count(200) + count(429), CLIENTS, "{statuses:?}");
    assert!(count(200) >= 8 && count(429) > 0, "{} answered, {} refused", count(200), count(429));
}

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
