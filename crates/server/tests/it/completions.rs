//! `POST /v1/completions`, whole and streamed.

use serde_json::{Value, json};

use crate::script::Script;
use crate::support::Server;

async fn continuing(text: &str) -> Server {
    let server = Server::start().await;
    server.script("tiny", Script { after: "hello".len(), ..Script::say(text) });
    server
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape_and_sixteen_tokens() {
    let server = continuing(" world, and all that is in it").await;
    let body = server.complete(json!({})).await.ok();
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(body["object"], "text_completion");
    assert_eq!(
        body["choices"],
        json!([{"text": " world, and all ", "index": 0, "logprobs": null, "finish_reason": "length"}])
    );
    assert_eq!(body["usage"]["prompt_tokens"], 5);
    assert_eq!(body["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn a_streamed_answer_is_the_same_text() {
    let server = continuing(" world").await;
    let answer = server.complete(json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    let chunks = answer.chunks();
    let text: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["text"].as_str()).collect();
    assert_eq!(text, " world");
    let [.., finish, usage] = &chunks[..] else { panic!("too few chunks") };
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["usage"]["total_tokens"], 5 + " world".len() + 1);
    assert_eq!(usage["choices"], json!([]));
}

#[tokio::test]
async fn a_prompt_of_tokens_is_a_prompt_of_text() {
    let server = Server::start().await;
    let tokens: Vec<u32> = b"hello".iter().map(|b| u32::from(*b)).collect();
    let text = async |prompt: Value| {
        server.complete(json!({"prompt": prompt})).await.ok()["choices"][0]["text"].clone()
    };
    let expected = text(json!("hello")).await;
    // A token's id is its byte.
    assert_eq!(text(json!(tokens)).await, expected);
    assert_eq!(text(json!([tokens])).await, expected);
    assert_eq!(text(json!(["hello"])).await, expected);
}

#[tokio::test]
async fn several_prompts_have_n_choices_each_in_order() {
    let server = Server::start().await;
    let fields = json!({"prompt": ["hello", "world"], "n": 2, "temperature": 1.0, "seed": 3});
    let body = server.complete(fields).await.ok();
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|c| c["index"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(body["usage"]["prompt_tokens"], 10);
    assert_eq!(body["usage"]["completion_tokens"], 64);
    let alone = server.complete(json!({"prompt": "world", "n": 2, "temperature": 1.0, "seed": 3})).await.ok();
    assert_eq!(alone["choices"][0]["text"], choices[2]["text"]);
    assert_eq!(alone["choices"][1]["text"], choices[3]["text"]);
}

#[tokio::test]
async fn echo_repeats_the_prompt_with_its_log_probabilities() {
    let server = continuing("!").await;
    let body = server.complete(json!({"echo": true, "logprobs": 2, "max_tokens": 4})).await.ok();
    let choice = &body["choices"][0];
    assert_eq!(choice["text"], "hello!");
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["h", "e", "l", "l", "o", "!"]));
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2, 3, 4, 5]));
    assert_eq!(logprobs["token_logprobs"][0], json!(null), "nothing predicts the first token");
    assert_eq!(logprobs["top_logprobs"][0], json!(null));
    for i in 1..6 {
        let own = logprobs["token_logprobs"][i].as_f64().unwrap();
        assert!(own <= 0.0);
        let top = logprobs["top_logprobs"][i].as_object().unwrap();
        // The two likeliest, and the token itself.
        assert!((2..=3).contains(&top.len()), "{top:?}");
        assert_eq!(top[logprobs["tokens"][i].as_str().unwrap()].as_f64().unwrap(), own);
    }
    // Only scoring the prompt.
    let body = server.complete(json!({"echo": true, "logprobs": 0, "max_tokens": 0})).await.ok();
    assert_eq!(body["choices"][0]["text"], "hello");
    assert_eq!(body["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 5);
    assert_eq!(body["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn a_streamed_echo_comes_first_and_offsets_go_on() {
    let server = continuing("!?").await;
    let chunks = server.complete(json!({"echo": true, "logprobs": 1, "stream": true})).await.chunks();
    assert_eq!(chunks[0]["choices"][0]["text"], "hello");
    let offsets: Vec<u64> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].as_array())
        .flatten()
        .map(|offset| offset.as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test]
async fn text_goes_through_as_it_is() {
    let server = continuing("<think>a</think><tool_call>{}</tool_call>").await;
    let body = server.complete(json!({"max_tokens": 100})).await.ok();
    assert_eq!(body["choices"][0]["text"], "<think>a</think><tool_call>{}</tool_call>");
}

#[tokio::test]
async fn ignore_eos_goes_on_to_max_tokens() {
    let server = continuing("!").await;
    let body = server.complete(json!({"ignore_eos": true, "max_tokens": 20})).await.ok();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 20);
}

#[tokio::test]
async fn an_empty_prompt_begins_a_text() {
    let server = Server::start().await;
    assert_eq!(server.complete(json!({"prompt": ""})).await.ok()["usage"]["prompt_tokens"], 1);
}

#[tokio::test]
async fn half_a_character_at_the_end_becomes_a_replacement_and_nothing_is_lost() {
    let server = continuing("aé").await;
    let body = server.complete(json!({"max_tokens": 2, "logprobs": 0})).await.ok();
    assert_eq!(body["choices"][0]["text"], "a\u{fffd}");
    assert_eq!(body["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 2);
}
