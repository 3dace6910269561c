//! `POST /v1/chat/completions`, whole and streamed.

use serde_json::{Value, json};

use crate::script::Script;
use crate::support::{Server, chat_body};

/// The joined pieces of a field of the deltas of choice 0.
fn joined(chunks: &[Value], field: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
}

#[tokio::test]
async fn a_whole_answer_has_openais_shape() {
    let server = Server::saying("Hello!").await;
    let answer = server.chat(json!({})).await;
    let body = answer.ok();
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "tiny");
    assert!(body["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(
        body["choices"],
        json!([{"index": 0, "message": {"role": "assistant", "content": "Hello!", "refusal": null},
            "logprobs": null, "finish_reason": "stop"}])
    );
    // `<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n`, a token for each byte and each special one.
    let prompt = 1 + "user\nhi".len() + 1 + 1 + 1 + "assistant\n".len();
    assert_eq!(body["usage"]["prompt_tokens"], prompt);
    assert_eq!(body["usage"]["completion_tokens"], "Hello!".len() + 1);
    assert_eq!(body["usage"]["total_tokens"], prompt + "Hello!".len() + 1);
    assert_eq!(body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    assert!(answer.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn a_streamed_answer_has_openais_chunks_in_openais_order() {
    let server = Server::saying("Hé!").await;
    let answer = server.chat(json!({"stream": true, "stream_options": {"include_usage": true}})).await;
    let chunks = answer.chunks();
    let first = &chunks[0];
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert!(chunks.iter().all(|chunk| chunk["id"] == first["id"] && chunk["created"] == first["created"]));
    assert_eq!(joined(&chunks, "content"), "Hé!");
    // Both bytes of `é` come in one piece.
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["delta"]["content"] == "é"));
    let [.., finish, usage] = &chunks[..] else { panic!("too few chunks") };
    assert_eq!(
        finish["choices"][0],
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": "stop"})
    );
    assert_eq!(finish["usage"], json!(null));
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], "Hé!".len() + 1);
    let unfinished = &chunks[..chunks.len() - 2];
    assert!(unfinished.iter().all(|chunk| chunk["choices"][0]["finish_reason"].is_null()));
}

#[tokio::test]
async fn without_include_usage_no_chunk_speaks_of_usage() {
    let server = Server::saying("a").await;
    let chunks = server.chat(json!({"stream": true})).await.chunks();
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none() && chunk["choices"] != json!([])));
}

#[tokio::test]
async fn streamed_and_whole_answers_are_the_same_text() {
    let server = Server::start().await;
    let fields = json!({"temperature": 1.0, "seed": 7, "max_tokens": 60, "n": 3});
    let whole = server.chat(fields.clone()).await.ok();
    let mut streamed = fields;
    streamed["stream"] = true.into();
    let chunks = server.chat(streamed).await.chunks();
    for choice in 0..3 {
        let of_choice: Vec<&Value> =
            chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|c| c["index"] == choice).collect();
        let text: String = of_choice.iter().filter_map(|c| c["delta"]["content"].as_str()).collect();
        assert_eq!(whole["choices"][choice]["message"]["content"], text);
        let finish = of_choice.last().unwrap();
        assert_eq!(finish["finish_reason"], whole["choices"][choice]["finish_reason"]);
    }
    assert_ne!(whole["choices"][0]["message"], whole["choices"][1]["message"]);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let server = Server::start().await;
    let ask = async |seed: i64| {
        let body = server.chat(json!({"temperature": 1.0, "seed": seed, "max_tokens": 40})).await.ok();
        body["choices"][0]["message"]["content"].clone()
    };
    let first = ask(-5).await;
    assert_eq!(first, ask(-5).await);
    assert_ne!(first, ask(6).await);
}

#[tokio::test]
async fn max_tokens_ends_with_length_and_both_names_work() {
    let server = Server::saying("abcdefgh").await;
    for name in ["max_tokens", "max_completion_tokens"] {
        let body = server.chat(json!({name: 3})).await.ok();
        assert_eq!(body["choices"][0]["message"]["content"], "abc");
        assert_eq!(body["choices"][0]["finish_reason"], "length");
        assert_eq!(body["usage"]["completion_tokens"], 3);
    }
}

#[tokio::test]
async fn stop_strings_end_the_answer_and_are_not_part_of_it() {
    let server = Server::saying("one two three").await;
    for stop in [json!(" th"), json!(["xyz", " th"])] {
        let body = server.chat(json!({"stop": stop})).await.ok();
        assert_eq!(body["choices"][0]["message"]["content"], "one two");
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
    }
    let chunks = server.chat(json!({"stop": " th", "stream": true})).await.chunks();
    assert_eq!(joined(&chunks, "content"), "one two");
}

#[tokio::test]
async fn thinking_is_split_out_under_both_names() {
    let server = Server::saying("<think>hm, stop</think>Yes.").await;
    let body = server.chat(json!({"stop": "stop"})).await.ok();
    let message = &body["choices"][0]["message"];
    assert_eq!(message["content"], "Yes.", "stop strings are not looked for in thinking");
    assert_eq!(message["reasoning_content"], "hm, stop");
    assert_eq!(message["reasoning"], "hm, stop");
    assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], "hm, stop".len() + 1);

    let chunks = server.chat(json!({"stream": true})).await.chunks();
    assert_eq!(joined(&chunks, "content"), "Yes.");
    assert_eq!(joined(&chunks, "reasoning_content"), "hm, stop");
    assert_eq!(joined(&chunks, "reasoning"), "hm, stop");
}

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "weather", "description": "Tells it",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]"#;

fn tools() -> Value {
    serde_json::from_str(TOOLS).unwrap()
}

#[tokio::test]
async fn a_call_of_a_tool_is_parsed_and_ends_with_tool_calls() {
    let call = r#"<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>"#;
    let server = Server::saying(&format!("Let me see.{call}")).await;
    let body = server.chat(json!({"tools": tools()})).await.ok();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(choice["message"]["content"], "Let me see.");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0]["type"], "function");
    assert_eq!(calls[0]["function"]["name"], "weather");
    let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "Rome"}));
    assert!(calls[0]["id"].as_str().unwrap().chars().all(|c| c.is_ascii_alphanumeric()));

    let chunks = server.chat(json!({"tools": tools(), "stream": true})).await.chunks();
    let deltas: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!(deltas[0]["index"], 0);
    assert_eq!(deltas[0]["function"]["name"], "weather");
    let arguments: String = deltas.iter().filter_map(|d| d["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"city": "Rome"}));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn only_calls_leave_the_content_null_and_one_call_is_kept_where_only_one_is_wanted() {
    let call = |city: &str| {
        format!(r#"<tool_call>{{"name": "weather", "arguments": {{"city": "{city}"}}}}</tool_call>"#)
    };
    let server = Server::saying(&format!("{}\n{}", call("Rome"), call("Oslo"))).await;
    let body = server.chat(json!({"tools": tools()})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], json!(null));
    assert_eq!(body["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 2);
    let body = server.chat(json!({"tools": tools(), "parallel_tool_calls": false})).await.ok();
    assert_eq!(body["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    // A model that was offered no tools only talks.
    let body = server.chat(json!({"tools": tools(), "tool_choice": "none"})).await.ok();
    assert!(body["choices"][0]["message"]["content"].as_str().unwrap().contains("<tool_call>"));
}

#[tokio::test]
async fn a_broken_call_stays_text_and_the_answer_goes_on() {
    let server = Server::saying("<tool_call>{\"name\": \"weather\", </tool_call> sorry").await;
    let chunks = server.chat(json!({"tools": tools(), "stream": true})).await.chunks();
    let text = joined(&chunks, "content");
    assert!(text.contains("\"weather\"") && text.ends_with("sorry"), "{text}");
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn log_probabilities_are_those_of_the_tokens_of_the_content() {
    let server = Server::saying("<think>x</think>né").await;
    let body = server.chat(json!({"logprobs": true, "top_logprobs": 2})).await.ok();
    let content = body["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let bytes: Vec<u64> = content.iter().map(|token| token["bytes"][0].as_u64().unwrap()).collect();
    // Bytes of `</think>` and of the thinking are not among them.
    assert!(bytes.ends_with("né".as_bytes().iter().map(|b| u64::from(*b)).collect::<Vec<_>>().as_slice()));
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[0]["logprob"], token["logprob"], "a greedy token is the likeliest");
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert!(top[0]["logprob"].as_f64() > top[1]["logprob"].as_f64());
    }
    let chunks = server.chat(json!({"logprobs": true, "stream": true})).await.chunks();
    let streamed: usize = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .map(Vec::len)
        .sum();
    assert_eq!(streamed, content.len());
}

#[tokio::test]
async fn logit_bias_bans_and_forces_tokens() {
    let server = Server::saying("aaa").await;
    let [a, b] = [u32::from(b'a'), u32::from(b'b')];
    let body = server
        .chat(json!({"logit_bias": {a.to_string(): -100, b.to_string(): 100}, "max_tokens": 3}))
        .await
        .ok();
    assert_eq!(body["choices"][0]["message"]["content"], "bbb");
}

#[tokio::test]
async fn all_roles_and_forms_of_content_reach_the_template() {
    let server = Server::saying("ok").await;
    let conversation = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null, "tool_calls":
            [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    ]);
    let body = server.chat(json!({"messages": conversation})).await.ok();
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nab<|im_end|>\n\
                    <|im_start|>assistant\n<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": 1}}</tool_call><|im_end|>\n\
                    <|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n";
    let specials = expected.matches("<|im_").count();
    let special_bytes = 5 * "<|im_start|>".len() + 4 * "<|im_end|>".len();
    assert_eq!(specials, 9);
    assert_eq!(body["usage"]["prompt_tokens"], expected.len() - special_bytes + specials);
}

#[tokio::test]
async fn template_arguments_and_reasoning_effort_reach_the_template() {
    let server = Server::saying("ok").await;
    let tokens =
        async |fields: Value| server.chat(fields).await.ok()["usage"]["prompt_tokens"].as_u64().unwrap();
    let plain = tokens(json!({})).await;
    let block = "<think>\n\n</think>\n\n".len() as u64 - "<think></think>".len() as u64 + 2;
    assert_eq!(tokens(json!({"chat_template_kwargs": {"enable_thinking": false}})).await, plain + block);
    assert_eq!(tokens(json!({"reasoning_effort": "none"})).await, plain + block);
    assert_eq!(tokens(json!({"reasoning_effort": "high"})).await, plain);
    let both = json!({"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": true}});
    assert_eq!(tokens(both).await, plain, "what is said to the template itself wins");
}

#[tokio::test]
async fn a_second_turn_finds_the_first_in_the_prefix_cache() {
    let server = Server::saying("Sure.").await;
    let long = "Tell me a long story about a perch. ".repeat(4);
    let first = json!([{"role": "user", "content": long}]);
    let body = server.chat(json!({"messages": first})).await.ok();
    let prompt = body["usage"]["prompt_tokens"].as_u64().unwrap();
    let second = json!([{"role": "user", "content": long}, {"role": "assistant", "content": "Sure."},
        {"role": "user", "content": "Go on."}]);
    let body = server.chat(json!({"messages": second})).await.ok();
    let cached = body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    // All whole blocks of 16 tokens of the first prompt, at least.
    assert!(cached >= prompt / 16 * 16, "{cached} of {prompt}");
    let salted = server.chat(json!({"messages": second, "cache_salt": "mine"})).await.ok();
    assert_eq!(salted["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

/// Gemma 2's template refuses system messages.
#[tokio::test]
async fn instructions_go_into_the_first_message_where_a_template_has_no_place_for_them() {
    let server = Server::start().await;
    let template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                    <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n";
    crate::fixture::write_model_with(&server.models_dir().join("gemma"), Some(template));
    let system = json!({"role": "system", "content": "Be brief."});
    let ask = async |messages: Value| {
        let body = server.chat(json!({"model": "gemma", "max_tokens": 1, "messages": messages})).await.ok();
        body["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let merged = ask(json!([system, {"role": "user", "content": "hi"}])).await;
    assert_eq!(merged, ask(json!([{"role": "user", "content": "Be brief.\n\nhi"}])).await);
    assert_eq!(ask(json!([system])).await, ask(json!([{"role": "user", "content": "Be brief."}])).await);
}

#[tokio::test]
async fn harmless_fields_are_accepted() {
    let server = Server::saying("ok").await;
    let fields = json!({"user": "u", "metadata": {"a": "b"}, "store": false, "service_tier": "auto",
        "prompt_cache_key": "k", "safety_identifier": "s", "parallel_tool_calls": true, "modalities": ["text"],
        "response_format": {"type": "text"}, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1,
        "frequency_penalty": 0.1, "presence_penalty": 0.1, "top_p": 0.9, "logprobs": false, "audio": null});
    server.chat(fields).await.ok();
}

#[tokio::test]
async fn the_default_model_answers_where_none_is_named() {
    let server = Server::with(|config| config.default_model = Some("tiny".into())).await;
    server.script("tiny", Script::say("me"));
    let mut body = chat_body(json!({}));
    body.as_object_mut().unwrap().remove("model");
    assert_eq!(server.post("/v1/chat/completions", &body).await.ok()["model"], "tiny");
}
