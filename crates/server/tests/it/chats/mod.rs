//! Conversations that the server keeps: asked in, cut to fit, kept whatever happens, moved and found.

mod asking;
mod endings;
mod fitting;
mod keeping;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Server, send};

/// Says something, with further fields.
async fn say(server: &Server, fields: Value) -> Answer {
    server.post("/api/v1/chat", &fields).await
}

/// Says something in a conversation. Returns the answer.
async fn say_in(server: &Server, id: &str, message: &str) -> Value {
    say(server, json!({"conversation_id": id, "message": message})).await.ok()
}

/// The id of a new conversation in which this was said.
async fn begin(server: &Server, message: &str) -> String {
    let reply = say(server, json!({"message": message})).await.ok();
    reply["conversation"]["id"].as_str().expect("it is kept").to_owned()
}

/// A conversation with its messages.
async fn show(server: &Server, id: &str) -> Value {
    server.get(&format!("/api/v1/chat/conversation/{id}")).await.ok()
}

/// The contents of all messages.
fn contents(detail: &Value) -> Vec<&str> {
    detail["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect()
}

async fn patch(server: &Server, id: &str, body: Value) -> Answer {
    let path = format!("/api/v1/chat/conversation/{id}");
    let headers = [("content-type", "application/json")];
    send(server.address(), Method::PATCH, &path, &headers, Some(body.to_string().into_bytes())).await
}

async fn delete(server: &Server, id: &str) -> Answer {
    let path = format!("/api/v1/chat/conversation/{id}");
    send(server.address(), Method::DELETE, &path, &[], None).await
}
