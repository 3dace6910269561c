//! OpenAI's shapes against examples from OpenAI's public API reference.

use perch_protocol::openai::*;
use serde_json::{from_value, json, to_value};

#[test]
fn a_prompt_may_be_text_texts_tokens_or_lists_of_tokens() {
    let read = |value| from_value::<Prompt>(value);
    assert_eq!(read(json!("hi")).unwrap(), Prompt::Text("hi".into()));
    assert_eq!(read(json!(["a", "b"])).unwrap(), Prompt::Texts(vec!["a".into(), "b".into()]));
    assert_eq!(read(json!([1, 2])).unwrap(), Prompt::Tokens(vec![1, 2]));
    assert_eq!(read(json!([[1], [2, 3]])).unwrap(), Prompt::TokenLists(vec![vec![1], vec![2, 3]]));
    assert_eq!(read(json!([])).unwrap(), Prompt::Texts(vec![]));
    assert!(read(json!(["a", 1])).unwrap_err().to_string().contains("one kind"));
    assert!(read(json!([-1])).is_err());
    assert!(read(json!([4294967296u64])).unwrap_err().to_string().contains("no token id"));
    assert!(read(json!({"a": 1})).unwrap_err().to_string().contains("a string, an array of strings"));
}

#[test]
fn the_requests_of_the_api_reference_are_read() {
    let request: ChatRequest = from_value(json!({
        "model": "m",
        "messages": [
            {"role": "developer", "content": "You are a helpful assistant."},
            {"role": "user", "content": [{"type": "text", "text": "What's in this image?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_abc123", "type": "function",
                "function": {"name": "get_current_weather", "arguments": "{\"location\": \"Boston, MA\"}"}}]},
            {"role": "tool", "tool_call_id": "call_abc123", "content": "rain"}
        ],
        "tools": [{"type": "function", "function": {"name": "get_current_weather", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "get_current_weather"}},
        "stop": ["a", "b"], "logit_bias": {"50256": -100}, "response_format": {"type": "json_object"}
    }))
    .unwrap();
    assert_eq!(request.messages.len(), 4);
    assert_eq!(request.messages[2].content, None);
    assert_eq!(request.stop.unwrap().into_vec(), ["a", "b"]);
    assert!(
        matches!(request.tool_choice, Some(ToolChoice::Function(choice)) if choice.function.name == "get_current_weather")
    );
}

#[test]
fn tool_choice_is_a_word_or_a_function() {
    assert_eq!(
        from_value::<ToolChoice>(json!("required")).unwrap(),
        ToolChoice::Mode(ToolChoiceMode::Required)
    );
    let error = from_value::<ToolChoice>(json!("always")).unwrap_err().to_string();
    assert!(error.contains("always") && error.contains("required"), "{error}");
}

/// OpenAI sends `"usage": null` with every chunk when usage was asked for, and no such field otherwise.
#[test]
fn usage_of_a_chunk_is_absent_null_or_given() {
    let chunk = |usage| ChatChunk {
        id: "chatcmpl-1".into(),
        object: "chat.completion.chunk".into(),
        created: 1,
        model: "m".into(),
        system_fingerprint: "f".into(),
        choices: vec![],
        usage,
    };
    assert_eq!(to_value(chunk(None)).unwrap().get("usage"), None);
    assert_eq!(to_value(chunk(Some(None))).unwrap()["usage"], json!(null));
    let usage = to_value(chunk(Some(Some(Usage::default())))).unwrap();
    assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

#[test]
fn an_empty_delta_is_an_empty_object_and_finish_reason_is_null() {
    let choice = ChunkChoice { index: 0, delta: ChunkDelta::default(), logprobs: None, finish_reason: None };
    assert_eq!(
        to_value(choice).unwrap(),
        json!({"index": 0, "delta": {}, "logprobs": null, "finish_reason": null})
    );
}
