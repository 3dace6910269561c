//! Answers that must call tools, in every notation.

use serde_json::{Value, json};

use crate::script::Script;
use crate::support::Server;

/// A conversation as ChatML, and a comment by which the model's notation is known.
fn template(markers: &str) -> String {
    format!(
        "{{%- if tools %}}<|im_start|>system\n{{{{ tools | tojson }}}}<|im_end|>\n{{% endif %}}\
         {{%- for message in messages %}}<|im_start|>{{{{ message.role }}}}\n{{{{ message.content }}}}<|im_end|>\n\
         {{%- endfor %}}<|im_start|>assistant\n{{# {markers} #}}"
    )
}

/// Every notation, and what in a template gives it away.
const NOTATIONS: [(&str, &str); 9] = [
    ("hermes", "<tool_call>"),
    ("qwen-xml", "<tool_call><function=f><parameter=p>"),
    ("llama3", "<|python_tag|>"),
    ("mistral", "[TOOL_CALLS]"),
    ("granite", "<|tool_call|>"),
    ("harmony", "<|channel|>"),
    ("deepseek-v3", "<｜tool▁calls▁begin｜> ```json"),
    ("deepseek-v3.1", "<｜tool▁calls▁begin｜>"),
    ("plain", "nothing"),
];

fn tools() -> Value {
    let parameters = json!({"type": "object", "additionalProperties": false, "required": ["days"], "properties": {
        "days": {"type": "integer", "minimum": 1, "maximum": 99},
        "unit": {"type": "string", "enum": ["C", "F \"old\""]}
    }});
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    json!([tool("weather"), tool("tide.table")])
}

fn check(call: &Value) {
    let name = call["function"]["name"].as_str().unwrap();
    assert!(["weather", "tide.table"].contains(&name), "{call}");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!((1..=99).contains(&arguments["days"].as_i64().unwrap()), "{arguments}");
    if let Some(unit) = arguments.get("unit") {
        assert!(["C", "F \"old\""].contains(&unit.as_str().unwrap()), "{arguments}");
    }
    assert!(arguments.as_object().unwrap().keys().all(|key| key == "days" || key == "unit"), "{arguments}");
}

/// The fake models write random bytes; what comes out is a call all the same.
#[tokio::test]
async fn a_model_that_must_call_a_tool_does_in_every_notation() {
    let server = Server::with(|config| config.pool.max_models = NOTATIONS.len()).await;
    for (name, markers) in NOTATIONS {
        crate::fixture::write_model_with(&server.models_dir().join(name), Some(&template(markers)));
        for seed in 0..4 {
            let named = json!({"type": "function", "function": {"name": "tide.table"}});
            let choice = if seed % 2 == 0 { json!("required") } else { named };
            let fields = json!({"model": name, "tools": tools(), "tool_choice": choice, "temperature": 1.0,
                "parallel_tool_calls": false, "seed": seed, "max_tokens": 1500});
            let body = server.chat(fields).await.ok();
            let answer = &body["choices"][0];
            assert_eq!(answer["finish_reason"], "tool_calls", "{name}: {answer}");
            let calls = answer["message"]["tool_calls"].as_array().unwrap();
            assert_eq!(calls.len(), 1, "{name}: {answer}");
            check(&calls[0]);
            if seed % 2 == 1 {
                assert_eq!(calls[0]["function"]["name"], "tide.table", "{name}");
            }
            assert_eq!(answer["message"]["content"], Value::Null, "{name}");
        }
    }
}

#[tokio::test]
async fn a_model_that_would_have_called_anyway_is_left_alone_and_may_call_twice() {
    let call = |days: u8| {
        format!("<tool_call>\n{{\"name\": \"weather\", \"arguments\": {{\"days\": {days}}}}}\n</tool_call>")
    };
    let server = Server::saying(&format!("<think>Two days?</think>\n\n{}\n{}", call(1), call(2))).await;
    let fields = json!({"tools": tools(), "tool_choice": "required"});
    let message = server.chat(fields).await.ok()["choices"][0]["message"].clone();
    assert_eq!(message["reasoning_content"], "Two days?");
    let days: Vec<&str> = message["tool_calls"]
        .as_array()
        .unwrap()
        .iter()
        .map(|call| call["function"]["arguments"].as_str().unwrap())
        .collect();
    assert_eq!(days, ["{\"days\":1}", "{\"days\":2}"]);
}

#[tokio::test]
async fn text_parameters_stand_bare_in_qwens_xml() {
    let server = Server::start().await;
    crate::fixture::write_model_with(&server.models_dir().join("coder"), Some(&template(NOTATIONS[1].1)));
    let said = "<tool_call>\n<function=write>\n<parameter=text>\nif a < b: \"x\"\n  y\n</parameter>\n\
                <parameter=lines>\n[1, 2]\n</parameter>\n</function>\n</tool_call>";
    server.script("coder", Script::say(said));
    let parameters = json!({"type": "object", "required": ["text"], "properties": {"text": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "integer"}}}});
    let tools = json!([{"type": "function", "function": {"name": "write", "parameters": parameters}}]);
    let fields = json!({"model": "coder", "tools": tools, "tool_choice": "required"});
    let body = server.chat(fields).await.ok();
    let arguments = body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str();
    let arguments = arguments.unwrap_or_else(|| panic!("{body}"));
    let expected = json!({"text": "if a < b: \"x\"\n  y", "lines": [1, 2]});
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), expected);
}

#[tokio::test]
async fn with_a_schema_and_tools_the_answer_is_one_or_the_other() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema}});
    let fields = json!({"tools": tools(), "response_format": format});
    let server = Server::saying("{\"n\": 7}").await;
    assert_eq!(server.chat(fields.clone()).await.ok()["choices"][0]["message"]["content"], "{\"n\": 7}");

    let server =
        Server::saying("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"days\": 3}}\n</tool_call>")
            .await;
    let body = server.chat(fields.clone()).await.ok();
    check(&body["choices"][0]["message"]["tool_calls"][0]);

    // Random text becomes one or the other.
    let server = Server::start().await;
    for seed in 0..4 {
        let mut fields = fields.clone();
        (fields["seed"], fields["temperature"], fields["max_tokens"]) =
            (seed.into(), 1.0.into(), 1500.into());
        fields["parallel_tool_calls"] = false.into();
        let body = server.chat(fields).await.ok();
        let message = &body["choices"][0]["message"];
        match message["tool_calls"].get(0) {
            Some(call) => check(call),
            None => {
                let value: Value = serde_json::from_str(message["content"].as_str().unwrap().trim()).unwrap();
                assert!(value["n"].is_i64() || value["n"].is_number(), "{value}");
            }
        }
    }
    // Where both would look alike it is refused.
    crate::fixture::write_model_with(&server.models_dir().join("llama"), Some(&template("<|python_tag|>")));
    let mut fields = fields.clone();
    fields["model"] = "llama".into();
    let (status, code, param) = server.chat(fields).await.error();
    assert_eq!((status, code.as_str()), (400, "unsupported_parameter"));
    assert_eq!(param.as_deref(), Some("response_format"));
}

#[tokio::test]
async fn a_choice_that_cannot_be_made_is_refused_by_name() {
    let server = Server::start().await;
    let refused = |fields: Value| {
        let server = &server;
        async move { server.chat(fields).await.error() }
    };
    let (status, _, param) = refused(json!({"tool_choice": "required"})).await;
    assert_eq!((status, param.as_deref()), (400, Some("tool_choice")));
    let unknown = json!({"type": "function", "function": {"name": "nothing"}});
    let (status, _, param) = refused(json!({"tools": tools(), "tool_choice": unknown})).await;
    assert_eq!((status, param.as_deref()), (400, Some("tool_choice.function.name")));
}
