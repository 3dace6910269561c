//! 200 clients at once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Behaviour, Server, fake};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_are_all_answered_and_health_stays_quick() {
    let server = Server::with(|config| config.pool.queue_limit = 100).await;
    let mut model = fake();
    model.step_delay = Duration::from_millis(1);
    server.behave("tiny", Behaviour::Fake(model));
    let clients = futures_util::future::join_all((0..200).map(|i| {
        let fields = json!({"max_tokens": 10, "stream": i % 2 == 0, "temperature": 1.0, "seed": i,
            "messages": [{"role": "user", "content": format!("client {i}: {}", "words ".repeat(50))}]});
        server.chat(fields)
    }));
    let mut clients = std::pin::pin!(clients);
    let mut health = Vec::new();
    let answers = loop {
        tokio::select! {
            answers = &mut clients => break answers,
            () = tokio::time::sleep(Duration::from_millis(10)) => {
                let begun = Instant::now();
                assert_eq!(server.get("/health").await.status, 200);
                health.push(begun.elapsed());
            }
        }
    };
    let refused = answers.iter().filter(|answer| answer.status == 429).count();
    assert!(refused < 200);
    for (i, answer) in answers.iter().enumerate() {
        match answer.status.as_u16() {
            200 if i % 2 == 0 => assert_eq!(answer.events().last().unwrap(), "[DONE]"),
            200 => assert!(answer.json()["choices"][0]["finish_reason"].is_string()),
            429 => assert!(answer.headers.contains_key("retry-after")),
            other => panic!("{other}: {}", answer.text()),
        }
    }
    // Clients, server and all other tests share the machine here: one moment without a core is not the server's doing.
    health.sort();
    let typical = health[health.len() * 9 / 10];
    assert!(typical < Duration::from_millis(100), "{health:?}");
}
