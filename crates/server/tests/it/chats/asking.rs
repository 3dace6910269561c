//! Saying something, and what comes back.

use serde_json::{Value, json};

use super::{begin, contents, say, say_in, show};
use crate::script::Script;
use crate::support::Server;

#[tokio::test]
async fn what_is_said_and_answered_is_kept() {
    let server = Server::saying("Hello there.").await;
    let reply = say(&server, json!({"message": "Hi, who are you?"})).await.ok();
    assert_eq!(reply["message"]["content"], "Hello there.");
    assert_eq!(
        (&reply["message"]["state"], &reply["message"]["finish_reason"]),
        (&json!("complete"), &json!("stop"))
    );
    assert_eq!((&reply["message"]["model"], &reply["left_out_turns"]), (&json!("tiny"), &json!(0)));
    assert!(reply["message"]["usage"]["prompt_tokens"].as_u64() > Some(16), "{reply}");
    assert!(reply["message"]["timings"]["duration_ms"].is_u64());
    let conversation = &reply["conversation"];
    assert_eq!(
        (&conversation["title"], &conversation["model"]),
        (&json!("Hi, who are you?"), &json!("tiny"))
    );
    let id = conversation["id"].as_str().unwrap();
    let detail = show(&server, id).await;
    assert_eq!(detail["conversation"], *conversation);
    assert_eq!(detail["messages"], json!([reply["user_message"], reply["message"]]));
    // The model is shown all of it.
    let second = say_in(&server, id, "And now?").await;
    let tokens = |reply: &Value| reply["message"]["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    // `<|im_start|>`, the role, a line's end, the words, `<|im_end|>`, a line's end; a token for each byte.
    let more =
        "Hello there.".len() + 2 + 1 + "user".len() + 1 + "And now?".len() + 2 + 1 + "assistant".len() + 1;
    assert_eq!(tokens(&second), tokens(&reply) + more);
    assert_eq!(
        contents(&show(&server, id).await),
        ["Hi, who are you?", "Hello there.", "And now?", "Hello there."]
    );
}

#[tokio::test]
async fn a_stream_begins_with_what_is_kept_and_ends_with_the_whole() {
    let server = Server::saying("<think>hm</think>Yes.").await;
    let answer = say(&server, json!({"message": "Really?", "stream": true})).await;
    let names: Vec<&str> = answer.text().lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let chunks = answer.chunks();
    assert_eq!(names.len(), chunks.len());
    assert!(chunks.iter().zip(&names).all(|(chunk, name)| chunk["type"] == *name));
    assert_eq!((names[0], names[names.len() - 1]), ("start", "done"));
    assert!(names[1..names.len() - 1].iter().all(|name| *name == "delta"));
    let joined = |key: &str| chunks.iter().filter_map(|chunk| chunk[key].as_str()).collect::<String>();
    assert_eq!((joined("reasoning").trim(), joined("content").trim()), ("hm", "Yes."));
    let (start, done) = (&chunks[0], &chunks[chunks.len() - 1]);
    assert_eq!(start["message_id"], done["message"]["id"]);
    assert_eq!(done["message"]["parent"], start["user_message"]["id"]);
    let detail = show(&server, start["conversation"]["id"].as_str().unwrap()).await;
    assert_eq!(detail["messages"], json!([start["user_message"], done["message"]]));
    assert_eq!(detail["messages"][1]["reasoning"].as_str().map(str::trim), Some("hm"));
}

#[tokio::test]
async fn an_answer_is_asked_for_again_and_a_question_is_edited() {
    let server = Server::saying("one").await;
    let first = say(&server, json!({"message": "question"})).await.ok();
    let id = first["conversation"]["id"].as_str().unwrap();
    let again = say(&server, json!({"conversation_id": id, "regenerate": true})).await.ok();
    assert_eq!(
        (&again["user_message"], &again["message"]["parent"]),
        (&Value::Null, &first["user_message"]["id"])
    );
    assert_eq!(again["message"]["usage"]["prompt_tokens"], first["message"]["usage"]["prompt_tokens"]);
    assert_eq!(again["conversation"]["head"], again["message"]["id"]);
    say_in(&server, id, "second").await;
    let older = json!({"conversation_id": id, "regenerate": true, "parent": first["user_message"]["id"]});
    assert_eq!(say(&server, older).await.ok()["message"]["parent"], first["user_message"]["id"]);
    let edited = json!({"conversation_id": id, "message": "other second", "parent": first["message"]["id"]});
    assert_eq!(say(&server, edited).await.ok()["user_message"]["parent"], first["message"]["id"]);
    let root = json!({"conversation_id": id, "message": "question", "parent": "root"});
    let root = say(&server, root).await.ok();
    assert_eq!(root["user_message"].get("parent"), None);
    assert_eq!(root["message"]["usage"]["prompt_tokens"], first["message"]["usage"]["prompt_tokens"]);
    assert_eq!(show(&server, id).await["messages"].as_array().unwrap().len(), 10);
}

#[tokio::test]
async fn what_is_said_at_once_is_answered_in_order() {
    let server = Server::start().await;
    server
        .script("tiny", Script { step_delay: std::time::Duration::from_millis(2), ..Script::say("answer") });
    let id = begin(&server, "begin").await;
    let talks = (0..6).map(|n| {
        let (server, id) = (&server, &id);
        async move { say_in(server, id, &format!("question {n}")).await }
    });
    let replies = futures_util::future::join_all(talks).await;
    let detail = show(&server, &id).await;
    let messages = detail["messages"].as_array().unwrap();
    // One branch: each question follows the answer before it, and was asked with it.
    for pair in messages.windows(2) {
        assert_eq!(pair[1]["parent"], pair[0]["id"]);
    }
    assert_eq!(messages.len(), 14);
    assert!(messages.iter().all(|message| message["state"] == "complete"));
    let mut tokens: Vec<u64> =
        replies.iter().map(|reply| reply["message"]["usage"]["prompt_tokens"].as_u64().unwrap()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 6, "each was shown one more turn: {tokens:?}");
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_and_nothing_is_kept() {
    let server = Server::saying("ok").await;
    let id = begin(&server, "hello").await;
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}}]);
    let cases = [
        (json!({}), "message"),
        (json!({"message": "  "}), "message"),
        (json!({"message": []}), "message"),
        (json!({"message": "a", "regenerate": true}), "regenerate"),
        (json!({"regenerate": true}), "regenerate"),
        (json!({"message": "a", "parent": "root"}), "parent"),
        (json!({"conversation_id": id, "message": "a", "system_prompt": "b"}), "system_prompt"),
        (json!({"conversation_id": id, "message": "a", "store": false}), "store"),
        (json!({"message": "a", "sampling": {"temperature": 3}}), "sampling.temperature"),
        (json!({"message": "a", "sampling": {"max_tokens": 0}}), "sampling.max_tokens"),
        (json!({"message": "a", "sampling": {"stop": [""]}}), "sampling.stop"),
        (json!({"message": "a", "sampling": {"reasoning_effort": "huge"}}), "sampling.reasoning_effort"),
    ];
    for (body, param) in cases {
        let error = say(&server, body.clone()).await.error();
        assert_eq!(
            (error.0, error.1.as_str(), error.2.as_deref()),
            (400, "invalid_value", Some(param)),
            "{body}"
        );
    }
    let unsupported =
        [(json!({"message": image}), "message"), (json!({"message": "a", "temperature": 1}), "temperature")];
    for (body, param) in unsupported {
        let error = say(&server, body).await.error();
        assert_eq!((error.1.as_str(), error.2.as_deref()), ("unsupported_parameter", Some(param)));
    }
    let missing = [
        json!({"conversation_id": "0".repeat(32), "message": "a"}),
        json!({"conversation_id": "'; --\u{0}", "message": "a"}),
        json!({"conversation_id": id, "message": "a", "parent": "nowhere"}),
    ];
    for body in missing {
        assert_eq!(say(&server, body).await.error().1, "not_found");
    }
    assert_eq!(say(&server, json!({"message": "a", "model": "other"})).await.error().1, "model_not_found");
    assert_eq!(show(&server, &id).await["conversation"]["message_count"], 2);
    let list = server.get("/api/v1/chat/conversations").await.ok();
    assert_eq!(list["conversations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_conversation_need_not_be_kept() {
    let server = Server::with(|config| config.chat.autosave = false).await;
    server.script("tiny", Script::say("ok"));
    let reply = say(&server, json!({"message": "a secret"})).await.ok();
    assert_eq!((&reply["conversation"], &reply["message"]["content"]), (&Value::Null, &json!("ok")));
    let kept = say(&server, json!({"message": "no secret", "store": true})).await.ok();
    let id = kept["conversation"]["id"].as_str().unwrap();
    assert_eq!(say_in(&server, id, "more").await["conversation"]["message_count"], 4);
    let list = server.get("/api/v1/chat/conversations").await.ok();
    assert_eq!(list["conversations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_prompt_is_answered_without_a_conversation() {
    let server = Server::saying("an answer").await;
    let reply = server.post("/api/v1/generate", &json!({"prompt": "a prompt"})).await.ok();
    assert_eq!((&reply["text"], &reply["finish_reason"]), (&json!("an answer"), &json!("stop")));
    let streamed =
        server.post("/api/v1/generate", &json!({"prompt": "a prompt", "stream": true})).await.chunks();
    let text: String = streamed.iter().filter_map(|chunk| chunk["text"].as_str()).collect();
    assert_eq!(text, "an answer");
    assert_eq!(streamed.last().unwrap()["reply"]["text"], "an answer");
    server.script("raw", Script { after: 8, ..Script::say(" goes on") });
    let raw = server.post("/api/v1/generate", &json!({"prompt": "a prompt", "raw": true})).await.ok();
    assert_eq!(raw["usage"]["prompt_tokens"], 8, "as it is, byte by byte");
    for (body, param) in [
        (json!({}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": "a", "raw": true, "system_prompt": "b"}), "system_prompt"),
        (json!({"prompt": "a", "sampling": {"top_p": 2}}), "sampling.top_p"),
    ] {
        assert_eq!(server.post("/api/v1/generate", &body).await.error().2.as_deref(), Some(param));
    }
    let list = server.get("/api/v1/chat/conversations").await.ok();
    assert_eq!(list["conversations"], json!([]));
}
