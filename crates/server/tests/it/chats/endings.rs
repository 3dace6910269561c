//! Answers that do not end well: what there is of them is kept, and marked.

use std::time::Duration;

use http::Method;
use perch_conversations::Store;
use perch_protocol::conversations::{MessageQuery, MessageState};
use perch_protocol::openai::Content;
use serde_json::{Value, json};

use super::{begin, delete, patch, say, say_in, show};
use crate::script::Script;
use crate::support::{Behaviour, Open, Server, events, eventually};

fn slow(text: &str) -> Script {
    Script { step_delay: Duration::from_millis(10), ..Script::say(text) }
}

/// A stream of which the beginning of the answer has come. Returns the id of its conversation.
async fn half_answered(server: &Server) -> (Open, String) {
    let body = json!({"message": "Tell me a story", "stream": true}).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let mut open =
        crate::support::begin(server.address(), Method::POST, "/api/v1/chat", &headers, Some(body)).await;
    let mut text = String::new();
    while events(&text).len() < 5 {
        text.push_str(&open.next().await.expect("more events"));
    }
    let start: Value = serde_json::from_str(&events(&text)[0]).unwrap();
    let id = start["conversation"]["id"].as_str().unwrap().to_owned();
    (open, id)
}

#[tokio::test]
async fn an_answer_whose_reader_goes_away_ends_and_is_kept_so_far() {
    let server = Server::start().await;
    server.script("tiny", slow(&"x".repeat(1500)));
    let (open, id) = half_answered(&server).await;
    assert_eq!(show(&server, &id).await["messages"][1]["state"], "running");
    drop(open);
    eventually("it ends", || server.handle.pool().status()[0].running == 0).await;
    let mut message = Value::Null;
    for _ in 0..100 {
        message = show(&server, &id).await["messages"][1].clone();
        if message["state"] != "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(message["state"], "cancelled");
    let text = message["content"].as_str().unwrap();
    assert!(!text.is_empty() && text.len() < 1000 && text.chars().all(|c| c == 'x'), "{text}");
    // The conversation goes on from there.
    server.script("tiny", Script::say("ok"));
    assert_eq!(say_in(&server, &id, "Go on").await["message"]["parent"].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn an_answer_that_is_cut_off_by_the_end_of_the_server_is_kept_so_far() {
    let server = Server::start().await;
    server.script("tiny", slow(&"x".repeat(1500)));
    let (mut open, id) = half_answered(&server).await;
    let ended = server.handle.shutdown(Duration::from_millis(100));
    let read = async {
        let mut text = String::new();
        while let Some(more) = open.next().await {
            text.push_str(&more);
        }
        text
    };
    let (text, ()) = tokio::join!(read, ended);
    let events = events(&text);
    let last: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
    assert_eq!((&last["type"], &last["error"]["code"]), (&json!("error"), &json!("model_restarting")));
    assert_eq!(events[events.len() - 1], "[DONE]");
    let store = Store::open(server.models_dir().parent().unwrap()).unwrap();
    let message = store.detail(&id, &MessageQuery::default()).unwrap().messages.pop().unwrap();
    assert_eq!(message.state, MessageState::Interrupted);
    assert_eq!(json!(message.content), last["message"]["content"]);
    assert!(matches!(message.content, Content::Text(text) if text.starts_with('x')));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_leaves_the_question_and_the_reason() {
    let server = Server::start().await;
    server.behave("tiny", Behaviour::Unsupported);
    let error = say(&server, json!({"message": "hello"})).await.error();
    assert_eq!((error.0, error.1.as_str()), (422, "invalid_model_file"));
    let list = server.get("/api/v1/chat/conversations").await.ok();
    let id = list["conversations"][0]["id"].as_str().unwrap();
    let detail = show(&server, id).await;
    assert_eq!(
        (&detail["messages"][0]["content"], &detail["messages"][1]["state"]),
        (&json!("hello"), &json!("failed"))
    );
    let streamed =
        say(&server, json!({"conversation_id": id, "regenerate": true, "stream": true})).await.chunks();
    assert_eq!((&streamed[0]["type"], &streamed[1]["type"]), (&json!("start"), &json!("error")));
    assert_eq!(streamed[1]["error"]["code"], "invalid_model_file");
    // What never came is not shown to a model that does come.
    server.script("tiny", Script::say("ok"));
    let reply = say(&server, json!({"conversation_id": id, "regenerate": true})).await;
    if reply.status == 200 {
        assert_eq!(reply.ok()["message"]["content"], "ok");
    }
}

#[tokio::test]
async fn deleting_a_conversation_ends_its_answer() {
    let server = Server::start().await;
    server.script("tiny", slow(&"x".repeat(1500)));
    let (mut open, id) = half_answered(&server).await;
    delete(&server, &id).await.ok();
    let mut text = String::new();
    while let Some(more) = open.next().await {
        text.push_str(&more);
    }
    assert!(text.contains("not_found") && text.ends_with("data: [DONE]\n\n"), "{text}");
    eventually("it ends", || server.handle.pool().status()[0].running == 0).await;
    assert_eq!(patch(&server, &id, json!({"pinned": true})).await.error().0, 404);
}

#[tokio::test]
async fn where_conversations_cannot_be_kept_everything_else_works() {
    let server = Server::saying("ok").await;
    let file = server.models_dir().parent().unwrap().join("conversations.db");
    std::fs::create_dir(&file).unwrap();
    let answer = say(&server, json!({"message": "hello"})).await;
    assert_eq!(answer.error().0, 500);
    assert!(answer.message().contains(file.to_str().unwrap()), "{}", answer.message());
    let health = server.get("/api/v1/health").await.ok();
    assert_eq!(
        (&health["status"], &health["conversations"]["status"]),
        (&json!("ok"), &json!("unavailable"))
    );
    assert_eq!(server.chat(json!({})).await.ok()["choices"][0]["message"]["content"], "ok");
    assert_eq!(
        say(&server, json!({"message": "hello", "store": false})).await.ok()["message"]["content"],
        "ok"
    );
    // It is tried again.
    std::fs::remove_dir(&file).unwrap();
    begin(&server, "hello").await;
    assert_eq!(server.get("/api/v1/health").await.ok()["conversations"]["status"], "ok");
}

#[tokio::test]
async fn a_damaged_file_is_told_and_named() {
    let server = Server::saying("ok").await;
    let file = server.models_dir().parent().unwrap().join("conversations.db");
    std::fs::write(file, b"no database at all".repeat(1000)).unwrap();
    let list = server.get("/api/v1/chat/conversations").await.ok();
    assert_eq!(list["notice"]["code"], "recovered");
    let health = server.get("/api/v1/health").await.ok();
    assert_eq!(health["conversations"]["status"], "recovered");
    let file = health["conversations"]["damaged_file"].as_str().unwrap();
    assert!(list["notice"]["message"].as_str().unwrap().contains(file));
    assert!(std::path::Path::new(file).exists());
    begin(&server, "hello").await;
}
