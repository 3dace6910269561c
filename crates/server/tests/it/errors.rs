//! Every error code that this server gives, reached over the wire, in OpenAI's envelope.

use perch_engine::testing::Fault;
use serde_json::{Value, json};

use crate::fixture::{CONTEXT, write_model_with};
use crate::script::Script;
use crate::support::{Behaviour, Server, fake};

async fn refused(server: &Server, fields: Value) -> (u16, String, String) {
    let (status, code, param) = server.chat(fields).await.error();
    (status, code, param.unwrap_or_default())
}

fn is(found: &(u16, String, String), status: u16, code: &str, param: &str) {
    assert_eq!((found.0, found.1.as_str(), found.2.as_str()), (status, code, param));
}

#[tokio::test]
async fn unsupported_fields_are_named() {
    let server = Server::start().await;
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]);
    let search = json!([{"type": "web_search"}]);
    let cases = [
        (json!({"frobnicate": 1}), "frobnicate"),
        (json!({"functions": []}), "functions"),
        (json!({"store": true}), "store"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"messages": image}), "messages[0].content[0]"),
        (json!({"messages": [{"role": "user", "content": "a", "mood": "good"}]}), "messages[0].mood"),
        (json!({"tools": search}), "tools[0].type"),
    ];
    for (fields, param) in cases {
        is(&refused(&server, fields).await, 400, "unsupported_parameter", param);
    }
    let (status, code, param) = server.complete(json!({"suffix": "end"})).await.error();
    assert_eq!((status, code.as_str(), param.as_deref()), (400, "unsupported_parameter", Some("suffix")));
    let (status, code, param) = server.complete(json!({"n": 1, "best_of": 2})).await.error();
    assert_eq!((status, code.as_str(), param.as_deref()), (400, "unsupported_parameter", Some("best_of")));
}

#[tokio::test]
async fn values_that_cannot_be_used_are_named() {
    let server = Server::start().await;
    let cases = [
        (json!({"temperature": 3}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": 1.5}), "top_p"),
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_completion_tokens": 0}), "max_completion_tokens"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": vec!["a"; 17]}), "stop"),
        (json!({"top_logprobs": 21, "logprobs": true}), "top_logprobs"),
        (json!({"top_logprobs": 1}), "top_logprobs"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias"),
        (json!({"logit_bias": {"1": 101}}), "logit_bias"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "wizard", "content": "a"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "tool", "content": "a"}]}), "messages[0].tool_call_id"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"reasoning_effort": "much"}), "reasoning_effort"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
    ];
    for (fields, param) in cases {
        is(&refused(&server, fields).await, 400, "invalid_value", param);
    }
    let (_, code, param) = server.complete(json!({"prompt": null})).await.error();
    assert_eq!((code.as_str(), param.as_deref()), ("invalid_value", Some("prompt")));
    let (_, code, _) = server.complete(json!({"prompt": [999_999]})).await.error();
    assert_eq!(code, "invalid_value");
    let (_, code, param) = server.complete(json!({"prompt": vec!["a"; 129]})).await.error();
    assert_eq!((code.as_str(), param.as_deref()), ("invalid_value", Some("n")));
    // Named by the engine, which knows the vocabulary.
    let answer = server.chat(json!({"logit_bias": {"999999": 1}})).await;
    assert_eq!(answer.error().1, "invalid_value");
    assert!(answer.message().contains("999999"));
}

#[tokio::test]
async fn a_body_that_is_no_json_is_told_where() {
    let server = Server::start().await;
    for (body, code) in [("{\"model\": ", "invalid_json"), ("", "invalid_json"), ("[1]", "invalid_value")] {
        let answer = server.post_text("/v1/chat/completions", body).await;
        assert_eq!(answer.error(), (400, code.to_owned(), None), "{body}");
    }
}

#[tokio::test]
async fn a_prompt_beyond_the_context_says_both_numbers() {
    let server = Server::start().await;
    let answer = server.complete(json!({"prompt": "x".repeat(3000)})).await;
    assert_eq!(answer.error().1, "context_length_exceeded");
    let message = answer.message();
    assert!(message.contains("3000") && message.contains(&CONTEXT.to_string()), "{message}");
}

#[tokio::test]
async fn unknown_models_routes_and_methods_are_told_in_json() {
    let server = Server::start().await;
    is(&refused(&server, json!({"model": "nope"})).await, 404, "model_not_found", "model");
    assert_eq!(server.get("/v2/models").await.error(), (404, "not_found".into(), None));
    let answer = server.get("/v1/chat/completions").await;
    assert_eq!(answer.error(), (405, "method_not_allowed".into(), None));
    assert_eq!(answer.headers["allow"], "POST");
    assert_eq!(server.post("/v1/models", &json!({})).await.error().0, 405);
}

#[tokio::test]
async fn a_full_queue_is_429_with_retry_after() {
    let server = Server::with(|config| {
        config.pool.queue_limit = 1;
        config.pool.max_sequences = 1;
    })
    .await;
    server.script(
        "tiny",
        Script { step_delay: std::time::Duration::from_millis(5), ..Script::say(&"x".repeat(100)) },
    );
    let answers = futures_util::future::join_all((0..6).map(|_| server.chat(json!({})))).await;
    let full: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!full.is_empty() && full.len() < 6);
    for answer in full {
        assert_eq!(answer.error().1, "queue_full");
        assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    }
}

#[tokio::test]
async fn models_that_cannot_be_loaded_say_why() {
    let server = Server::with_models(&["tiny", "panics", "torn", "odd"], |_| {}).await;
    server.behave("panics", Behaviour::Panic);
    server.behave("odd", Behaviour::Unsupported);
    let torn = server.models_dir().join("torn/model.safetensors");
    let bytes = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &bytes[..bytes.len() / 2]).unwrap();
    is(&refused(&server, json!({"model": "panics"})).await, 500, "engine_error", "");
    is(&refused(&server, json!({"model": "odd"})).await, 422, "invalid_model_file", "");
    let answer = server.chat(json!({"model": "torn"})).await;
    assert_eq!(answer.error().1, "invalid_model_file");
    assert!(answer.message().contains("model.safetensors"), "{}", answer.message());
    *server.loader.weight_bytes.lock().unwrap() = 1 << 60;
    let answer = server.chat(json!({})).await;
    assert_eq!((answer.error().0, answer.error().1.as_str()), (503, "insufficient_memory"));
    assert!(answer.headers.contains_key("retry-after"));
    assert!(answer.message().contains("1048576.0 TiB of weights"), "{}", answer.message());
}

#[tokio::test]
async fn templates_that_refuse_run_away_or_are_missing_say_so() {
    let server = Server::start().await;
    let write = |name: &str, template| write_model_with(&server.models_dir().join(name), template);
    write(
        "refuses",
        Some(
            "{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}{{ messages[0].content }}",
        ),
    );
    write(
        "endless",
        Some(
            "{{ messages[0].content }}{% for i in range(90000) %}{% for j in range(90000) %}x{% endfor %}{% endfor %}",
        ),
    );
    write("none", Some(""));
    std::fs::remove_file(server.models_dir().join("none/tokenizer_config.json")).unwrap();
    let two = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
    let answer = server.chat(json!({"model": "refuses", "messages": two})).await;
    assert_eq!((answer.error().0, answer.error().1.as_str()), (422, "template_error"));
    assert!(answer.message().contains("one at a time"));
    is(&refused(&server, json!({"model": "endless"})).await, 422, "template_limit", "");
    // ChatML stands in where the vocabulary has its tokens.
    assert_eq!(server.chat(json!({"model": "none", "max_tokens": 1})).await.status, 200);
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    is(
        &refused(&server, json!({"model": "none", "tools": tools})).await,
        400,
        "unsupported_parameter",
        "tools",
    );
}

#[tokio::test]
async fn an_engine_that_fails_on_one_request_answers_it_and_goes_on() {
    let server = Server::start().await;
    let faulty =
        |fault| Behaviour::Fake(perch_engine::testing::FakeModel { faults: vec![(2, fault)], ..fake() });
    server.behave("tiny", faulty(Fault::Panic));
    let answer = server.chat(json!({"max_tokens": 50, "temperature": 1.0, "seed": 1})).await;
    assert_eq!((answer.error().0, answer.error().1.as_str()), (503, "model_restarting"));
    assert!(answer.headers.contains_key("retry-after"));
    // The model is built again, and answers.
    server.chat(json!({"max_tokens": 5})).await.ok();
}

#[tokio::test]
async fn a_stream_that_fails_on_the_way_ends_with_an_error_event() {
    let server = Server::start().await;
    let model = perch_engine::testing::FakeModel { faults: vec![(6, Fault::Fatal)], ..fake() };
    server.behave("tiny", Behaviour::Fake(model));
    let fields = json!({"stream": true, "logit_bias": {"258": -100, "256": -100}, "max_tokens": 50});
    let events = server.chat(fields).await.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "model_restarting");
    assert!(last["error"]["message"].as_str().unwrap().contains("scripted"));
    assert!(events.len() > 2, "something came before");
}
