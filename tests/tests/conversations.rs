//! Conversations of the real server: it is killed at random moments, and everything that it has acknowledged is there.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{env, thread};

use perch_tests::{Api, Perch, RandomModel, Server, write_config};
use serde_json::{Value, json};

/// How often the server is killed, unless `TESTS_KILLS` says.
const KILLS: usize = 20;
/// Clients that say things at the same time, each in a conversation of its own.
const CLIENTS: usize = 4;
/// The latest moment of a kill, after the first client was told that its message is kept.
const LATEST: Duration = Duration::from_millis(150);

/// What a client was told before the connection broke.
#[derive(Debug, Default)]
struct Told {
    conversation: Option<String>,
    /// Ids and contents, in the order in which they were told.
    messages: Vec<(String, Value)>,
}

/// Says something; notes what is acknowledged. `false` when the server is gone.
fn say(address: &str, told: &mut Told, text: &str) -> bool {
    let mut body = json!({"message": text, "stream": true, "sampling": {"max_tokens": 6, "temperature": 0}});
    if let Some(id) = &told.conversation {
        body["conversation_id"] = json!(id);
    }
    let body = body.to_string();
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let head = format!(
        "POST /api/v1/chat HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    if stream.write_all((head + &body).as_bytes()).is_err() {
        return false;
    }
    for line in BufReader::new(stream).lines() {
        let Ok(line) = line else { return false };
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            return true;
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else { return false };
        let mut note = |message: &Value| {
            let id = message["id"].as_str().expect("a message has an id").to_string();
            told.messages.push((id, message["content"].clone()));
        };
        match event["type"].as_str() {
            Some("start") => {
                note(&event["user_message"]);
                told.conversation = event["conversation"]["id"].as_str().map(str::to_string);
            }
            Some("done") => note(&event["message"]),
            _ => {}
        }
    }
    false
}

/// Lets clients talk to the server and kills it at a random moment. Returns what they were told.
fn talk_and_kill(server: &mut Server, moment: Duration) -> Vec<Told> {
    let address = server.url.trim_start_matches("http://").to_string();
    let told = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let address = &address;
                scope.spawn(move || {
                    let mut told = Told::default();
                    for n in 0.. {
                        if !say(
                            address,
                            &mut told,
                            &format!("client {client} says {n} {}", "x".repeat(n * 97 % 3000)),
                        ) {
                            return told;
                        }
                    }
                    told
                })
            })
            .collect();
        thread::sleep(moment);
        server.signal("KILL");
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    server.wait(Duration::from_secs(5));
    told
}

/// Everything that was told is there, in its order.
fn check(api: &Api, told: &Told) {
    let Some(id) = &told.conversation else { return };
    let detail = api.get(&format!("/api/v1/chat/conversation/{id}")).json();
    let messages = detail["messages"].as_array().unwrap_or_else(|| panic!("{id} is gone: {detail}"));
    let kept: BTreeMap<&str, (usize, &Value)> = messages
        .iter()
        .enumerate()
        .map(|(at, m)| (m["id"].as_str().expect("an id"), (at, &m["content"])))
        .collect();
    let mut last = 0;
    for (id, content) in &told.messages {
        let (at, found) =
            kept.get(id.as_str()).unwrap_or_else(|| panic!("{content} was acknowledged and is gone"));
        assert_eq!(found, &content);
        assert!(*at >= last, "the order has changed");
        last = *at;
    }
    for message in messages {
        assert!(
            ["complete", "interrupted"].contains(&message["state"].as_str().expect("a state")),
            "{message}"
        );
    }
}

fn start(perch: Perch) -> Server {
    perch.serve(["--model", "m"])
}

#[test]
fn a_server_that_is_killed_at_any_moment_has_kept_what_it_acknowledged() {
    let kills = env::var("TESTS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let mut server = start(RandomModel::TINY.home("m"));
    let begun = Instant::now();
    let mut acknowledged = 0;
    for kill in 0..kills {
        // The first answer loads the model, which takes longer than any moment.
        let warm = json!({"message": "hello", "store": false, "sampling": {"max_tokens": 1}});
        assert_eq!(server.api().post("/api/v1/chat", &warm).status, 200);
        // Spread evenly, in no order.
        let moment = LATEST.mul_f64((kill as f64 * 0.618_034).fract());
        let told = talk_and_kill(&mut server, moment);
        server = start(std::mem::take(&mut server.perch));
        let api = server.api();
        let health = api.get("/api/v1/health").json();
        assert_eq!(health["conversations"]["status"], "ok", "a kill is no damage: {health}");
        told.iter().for_each(|told| check(&api, told));
        acknowledged += told.iter().map(|told| told.messages.len()).sum::<usize>();
    }
    println!("{kills} kills, {acknowledged} acknowledged messages, {:.0} s", begun.elapsed().as_secs_f64());
    assert!(acknowledged > kills, "{acknowledged}");
}

#[test]
fn the_settings_of_conversations_are_read_from_the_file() {
    let perch = RandomModel::TINY.home("m");
    write_config(&perch, "[chat]\nautosave = false\nmax_turns = 3\nsystem_prompt = \"Be brief.\"\n");
    let server = start(perch);
    let body = json!({"message": "hello", "sampling": {"max_tokens": 2}});
    let reply = server.api().post("/api/v1/chat", &body);
    assert_eq!((reply.status, &reply.json()["conversation"]), (200, &Value::Null), "{}", reply.text);
    assert_eq!(server.api().get("/api/v1/chat/conversations").json()["conversations"], json!([]));
}
