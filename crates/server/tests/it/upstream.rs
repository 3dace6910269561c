//! Models that another server runs: two servers of ours, one of which sends requests on to the other.

use std::time::Duration;

use http::Method;
use perch_server::{KeyConfig, ModelConfig, Provider};
use serde_json::{Value, json};

use crate::script::Script;
use crate::support::{Server, begin, chat_body, eventually, send};

const CHAT: &str = "/v1/chat/completions";

/// The table of a model called `far` that `base_url` runs as `tiny`.
fn far(base_url: String) -> ModelConfig {
    ModelConfig {
        id: "far".into(),
        provider: Some(Provider::OpenAi),
        base_url: Some(base_url),
        model: Some("tiny".into()),
        aliases: vec!["far-*".into()],
        ..ModelConfig::default()
    }
}

/// A server whose model `far` is `tiny` of the other one, which says `script`.
async fn pair(script: Script) -> (Server, Server) {
    let there = Server::start().await;
    there.script("tiny", script);
    let here = Server::with(|config| config.models = vec![far(format!("{}/v1", there.handle.url()))]).await;
    (here, there)
}

/// The answer without what differs from one request to the next.
fn timeless(mut answer: Value) -> Value {
    for key in ["id", "created"] {
        answer.as_object_mut().unwrap().remove(key);
    }
    // The second of two requests finds the first one's prefix.
    answer["usage"]["prompt_tokens_details"].take();
    answer
}

#[tokio::test]
async fn answers_come_as_the_other_server_gave_them() {
    let (here, there) = pair(Script::say("hello from afar")).await;
    let asked = json!({"model": "far", "temperature": 0});
    let answer = here.chat(asked).await.ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "hello from afar");
    let direct = there.chat(json!({"temperature": 0})).await.ok();
    assert_eq!(timeless(answer), timeless(direct), "the model's name is the other server's, as is all else");
    assert_eq!((here.loads(), there.loads()), (0, 1));
    // A name that only its pattern catches, and the other route.
    let body = json!({"model": "far-away", "prompt": "hi", "max_tokens": 4});
    assert!(here.post("/v1/completions", &body).await.ok()["choices"][0]["text"].is_string());
    let listed = here.get("/v1/models").await.ok();
    assert!(listed["data"].as_array().unwrap().iter().any(|model| model["id"] == "far"), "{listed}");
    let counts = here.get("/api/requests").await.ok();
    let newest = &counts["requests"][1];
    assert_eq!((&newest["model"], &newest["outcome"]), (&json!("far"), &json!("completed")), "{counts}");
    assert!(
        newest["completion_tokens"].as_u64().unwrap() > 0 && newest["prompt_tokens"].as_u64().unwrap() > 0
    );
}

#[tokio::test]
async fn streams_pass_byte_for_byte_and_models_of_this_machine_stay_here() {
    let (here, _there) = pair(Script::say("one two three")).await;
    here.script("tiny", Script::say("from here"));
    let streamed =
        here.chat(json!({"model": "far", "stream": true, "stream_options": {"include_usage": true}})).await;
    let chunks = streamed.chunks();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "one two three");
    assert!(chunks.last().unwrap()["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    let near = here.chat(json!({})).await.ok();
    assert_eq!(near["choices"][0]["message"]["content"], "from here");
    // A field that Perch itself would refuse is the other server's to judge; for a local model it is refused as ever.
    assert_eq!(here.chat(json!({"model": "far", "nonsense": 1})).await.error().2, Some("nonsense".into()));
    assert_eq!(here.chat(json!({"nonsense": 1})).await.error().2, Some("nonsense".into()));
    assert_eq!(here.post_text(CHAT, "{").await.error().1, "invalid_json");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_request_there_too() {
    let slow = Script { step_delay: Duration::from_millis(20), ..Script::say(&"x".repeat(2000)) };
    let (here, there) = pair(slow).await;
    let body =
        chat_body(json!({"model": "far", "stream": true, "max_tokens": 2000})).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let mut open = begin(here.address(), Method::POST, CHAT, &headers, Some(body)).await;
    open.next().await.unwrap();
    assert_eq!(there.handle.status().borrow().requests.active, 1);
    drop(open);
    let status = there.handle.status();
    eventually("the other server forgets it", || status.borrow().requests.active == 0).await;
    assert_eq!(status.borrow().requests.cancelled, 1);
}

#[tokio::test]
async fn failures_are_named_and_refusals_passed_on() {
    let (here, there) = pair(Script::say("x")).await;
    // The other server's own refusal, as it is.
    let refused = here.chat(json!({"model": "far", "temperature": 99})).await;
    assert_eq!(refused.error(), (400, "invalid_value".into(), Some("temperature".into())));
    // Nobody there any more.
    let address = there.address();
    there.handle.shutdown(Duration::from_secs(1)).await;
    let gone = here.chat(json!({"model": "far"})).await;
    assert_eq!(gone.error().1, "upstream_unavailable");
    assert!(gone.status == 502 && gone.message().contains(&address.to_string()), "{}", gone.message());
    // Routes that need the model itself say so.
    let load = here.post("/api/v1/load-model", &json!({"model": "far"})).await;
    assert!(load.error().0 == 400 && load.message().contains("another server"), "{}", load.text());
}

#[tokio::test]
async fn the_other_server_gets_its_own_key_and_never_ours() {
    let there =
        Server::with(|config| config.keys = vec![KeyConfig::all_scopes("a", env!("CARGO_PKG_NAME"))]).await;
    there.script("tiny", Script::say("let in"));
    // A variable that cargo sets for every test.
    let url = format!("{}/v1", there.handle.url());
    let keyed = ModelConfig { api_key_env: Some("CARGO_PKG_NAME".into()), ..far(url.clone()) };
    let keyless = ModelConfig { id: "keyless".into(), aliases: Vec::new(), ..far(url) };
    let here = Server::with(|config| {
        config.keys = vec![KeyConfig::all_scopes("a", "ours")];
        config.models = vec![keyed, keyless];
    })
    .await;
    let ask = async |model: &str| {
        let headers = [("content-type", "application/json"), ("authorization", "Bearer ours")];
        let body = chat_body(json!({"model": model})).to_string().into_bytes();
        send(here.address(), Method::POST, CHAT, &headers, Some(body)).await
    };
    assert_eq!(ask("far").await.ok()["choices"][0]["message"]["content"], "let in");
    let refused = ask("keyless").await;
    assert_eq!(refused.error().1, "upstream_unavailable");
    assert!(refused.message().contains("refuses its key"), "{}", refused.message());
    let outsider = here.chat(json!({"model": "far"})).await;
    assert_eq!(outsider.error().1, "invalid_api_key", "forwarding is behind the key as well");
}

#[tokio::test]
async fn conversations_are_kept_here_and_answered_there() {
    let (here, there) = pair(Script::say("hello from afar")).await;
    let say = async |fields: Value| here.post("/api/v1/chat", &fields).await;
    let first = say(
        json!({"model": "far", "message": "hi", "sampling": {"temperature": 0}, "system_prompt": "Be kind."}),
    )
    .await
    .ok();
    let message = &first["message"];
    assert_eq!(
        (&message["content"], &message["model"]),
        (&json!("hello from afar"), &json!("far")),
        "{first}"
    );
    assert_eq!((&message["state"], &message["finish_reason"]), (&json!("complete"), &json!("stop")));
    let prompt = message["usage"]["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > 0 && message["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{message}");
    let id = first["conversation"]["id"].as_str().unwrap();
    // What was said before goes there too, streamed as any answer is.
    let again = say(json!({"conversation_id": id, "message": "and again", "stream": true})).await;
    let events = again.chunks();
    let text: String = events.iter().filter_map(|event| event["content"].as_str()).collect();
    assert_eq!(text, "hello from afar");
    let done = events.last().unwrap();
    assert!(done["message"]["usage"]["prompt_tokens"].as_u64().unwrap() > prompt, "{done}");
    assert_eq!((here.loads(), there.loads()), (0, 1));
    let newest = &here.get("/api/requests").await.ok()["requests"][0];
    assert_eq!((&newest["model"], &newest["outcome"]), (&json!("far"), &json!("completed")));
}

#[tokio::test]
async fn a_conversation_whose_server_fails_says_so_and_goes_on_elsewhere() {
    let (here, there) = pair(Script::say("x")).await;
    here.script("tiny", Script::say("from here"));
    let refused = here.post("/api/v1/chat", &json!({"model": "far", "message": "x".repeat(200_000)})).await;
    assert_eq!((refused.error().0, refused.error().1.as_str()), (502, "upstream_unavailable"));
    assert!(refused.message().contains("answers 400"), "{}", refused.message());
    there.handle.shutdown(Duration::from_secs(1)).await;
    let gone = here.post("/api/v1/chat", &json!({"model": "far", "message": "hi"})).await;
    assert!(gone.status == 502 && gone.message().contains("cannot be reached"), "{}", gone.message());
    // What was said is kept, and another model may answer it.
    let listed = here.get("/api/v1/chat/conversations").await.ok();
    let id = listed["conversations"][0]["id"].as_str().unwrap();
    let again = json!({"conversation_id": id, "regenerate": true, "model": "tiny"});
    assert_eq!(here.post("/api/v1/chat", &again).await.ok()["message"]["content"], "from here");
}

#[tokio::test]
async fn a_conversation_that_is_stopped_ends_there_too_and_keeps_what_came() {
    let slow = Script { step_delay: Duration::from_millis(20), ..Script::say(&"x".repeat(2000)) };
    let (here, there) = pair(slow).await;
    let body = json!({"model": "far", "message": "hi", "stream": true}).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let mut open = begin(here.address(), Method::POST, "/api/v1/chat", &headers, Some(body)).await;
    let status = there.handle.status();
    eventually("the other server answers", || status.borrow().requests.active == 1).await;
    while !open.next().await.is_some_and(|chunk| chunk.contains("event: delta")) {}
    drop(open);
    eventually("the other server forgets it", || status.borrow().requests.active == 0).await;
    let listed = here.get("/api/v1/chat/conversations").await.ok();
    let id = listed["conversations"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/chat/conversation/{id}");
    let answer = &here.get(&path).await.ok()["messages"][1];
    assert_eq!(answer["state"], "cancelled", "{answer}");
    assert!(answer["content"].as_str().unwrap().starts_with('x'), "{answer}");
}
