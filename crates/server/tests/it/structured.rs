//! Answers that are kept to a JSON schema.

use serde_json::{Value, json};

use crate::script::Script;
use crate::support::Server;

fn schema() -> Value {
    json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer",
        "minimum": 0, "maximum": 150}}, "required": ["name", "age"], "additionalProperties": false})
}

fn format() -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": schema()}})
}

/// The fake model writes random bytes; what comes out fits all the same.
#[tokio::test]
async fn a_random_model_writes_json_that_fits_the_schema() {
    let server = Server::start().await;
    for seed in 0..8 {
        let fields =
            json!({"response_format": format(), "temperature": 1.0, "seed": seed, "max_tokens": 1500});
        let body = server.chat(fields).await.ok();
        let choice = &body["choices"][0];
        assert_eq!(choice["finish_reason"], "stop");
        let text = choice["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
        assert!(value["name"].as_str().unwrap().chars().count() <= 8);
        assert!((0..=150).contains(&value["age"].as_i64().unwrap()));
        assert_eq!(value.as_object().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn json_object_is_any_object() {
    let server = Server::saying("no JSON at all").await;
    // Without its script the model likes late tokens best: it is kept from thinking, and made to come to an end.
    let fields = json!({"response_format": {"type": "json_object"}, "logit_bias": {"125": 50, "259": -100}, "max_tokens": 200});
    let body = server.chat(fields).await.ok();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(serde_json::from_str::<Value>(text).unwrap().is_object(), "{text}");
}

#[tokio::test]
async fn what_the_model_would_have_written_anyway_is_left_alone() {
    let answer = r#"{"name": "Ada", "age": 36}"#;
    let server = Server::saying(answer).await;
    let body = server.chat(json!({"response_format": format()})).await.ok();
    assert_eq!(body["choices"][0]["message"]["content"], answer);
}

#[tokio::test]
async fn a_model_that_thinks_thinks_freely_before_it_answers() {
    let server = Server::saying("<think>Who was it? {Ada}</think>{\"name\":\"Ada\",\"age\":36}").await;
    let body = server.chat(json!({"response_format": format()})).await.ok();
    let message = &body["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Who was it? {Ada}");
    assert_eq!(message["content"], "{\"name\":\"Ada\",\"age\":36}");
}

/// gpt-oss writes its thinking as a message of its own, before the one that has to fit.
#[tokio::test]
async fn harmonys_analysis_is_free_and_its_final_message_fits() {
    let server = Server::start().await;
    let template = "<|start|>user<|message|>{{ messages[0].content }}<|end|><|start|>assistant\
                    {#- <|channel|>analysis or <|channel|>final -#}";
    crate::fixture::write_model_with(&server.models_dir().join("oss"), Some(template));
    let prompt = 1 + "user".len() + 1 + "hi".len() + 1 + 1 + "assistant".len();
    let text = "<|channel|>analysis<|message|>Who? {<|end|><|start|>assistant<|channel|>final<|message|>\
                {\"name\":\"Ada\",\"age\":36}";
    server.script("oss", Script { after: prompt, ..Script::say(text) });
    let body = server.chat(json!({"model": "oss", "response_format": format()})).await.ok();
    assert_eq!(body["usage"]["prompt_tokens"], prompt);
    let message = &body["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "Who? {");
    assert_eq!(message["content"], "{\"name\":\"Ada\",\"age\":36}");
}

/// A model that only writes blanks would otherwise go on to the end of its context.
#[tokio::test]
async fn blanks_between_values_are_bounded() {
    let server = Server::start().await;
    server.script("tiny", Script::say(&" ".repeat(1900)));
    let fields =
        json!({"response_format": format(), "logit_bias": {"34": 5, "44": 5, "125": 6}, "max_tokens": 1900});
    let body = server.chat(fields).await.ok();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.contains(&" ".repeat(65)), "{text:?}");
}

#[tokio::test]
async fn a_schema_that_cannot_be_used_is_refused_with_a_reason() {
    let server = Server::start().await;
    let bad = [
        json!({"type": "nonsense"}),
        json!({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}),
        json!({"not": {"type": "string"}}),
        json!("text"),
    ];
    for schema in bad {
        let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
        let answer = server.chat(json!({"response_format": format})).await;
        let (status, code, param) = answer.error();
        assert_eq!((status, code.as_str()), (400, "invalid_json_schema"), "{schema}");
        assert!(param.unwrap().starts_with("response_format"));
    }
}
