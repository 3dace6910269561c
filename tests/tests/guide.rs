//! The built-in guide: there without any set-up, honest about itself, and never in the way of a real model.

use std::time::Duration;

use perch_tests::{Perch, RandomModel, Server};
use serde_json::{Value, json};

fn guide() -> Server {
    Perch::new().with_guide().serve::<&str>([])
}

fn ask(server: &Server, mut body: Value) -> Value {
    body["temperature"] = json!(0);
    body["max_tokens"] = json!(120);
    let answer = server.api().post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

fn says(server: &Server, prompt: &str) -> String {
    let answer = ask(server, json!({"messages": [{"role": "user", "content": prompt}]}));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    answer["choices"][0]["message"]["content"].as_str().expect("text").to_string()
}

#[test]
fn a_new_installation_answers_a_question_about_itself() {
    let (code, stdout, stderr) = Perch::new().with_guide().run(["run", "How do I connect my editor?"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("http://localhost:8080/v1"), "{stdout}");
}

#[test]
fn it_is_listed_as_what_it_is() {
    let server = guide();
    let models = server.api().get("/v1/models").json();
    let model = &models["data"][0];
    assert_eq!(models["data"].as_array().map(Vec::len), Some(1), "{models}");
    assert_eq!((&model["id"], &model["owned_by"]), (&json!("guide"), &json!("perch")));
    assert_eq!(model["description"], "built-in guide (demonstration)");
    let answer = ask(&server, json!({"messages": [{"role": "user", "content": "Hello"}]}));
    assert_eq!(answer["model"], "guide");
    let status = server.api().get("/api/status").json();
    assert_eq!(status["models"][0]["description"], "built-in guide (demonstration)", "{status}");

    let (_, stdout, stderr) = server.perch.run(["list"]);
    assert!(stdout.contains("guide") && stdout.contains("built-in guide (demonstration)"), "{stdout}");
    assert!(stderr.contains("no models on this machine yet"), "{stderr}");
    let (_, stdout, _) = server.perch.run(["list", "--json"]);
    let list: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&list[0]["id"], &list[0]["store"]), (&json!("guide"), &json!("built_in")));
}

#[test]
fn it_is_among_the_models_of_this_machine_and_cannot_be_deleted() {
    let server = guide();
    let list = server.api().get("/local/models").json();
    let model = &list["models"][0];
    assert_eq!(
        (&model["id"], &model["store"], &model["path"]),
        (&json!("guide"), &json!("built_in"), &json!(""))
    );
    assert_eq!(model["description"], "built-in guide (demonstration)");
    assert_eq!((&model["problem"], &model["chat_template"]), (&Value::Null, &json!(true)), "{model}");
    let numbers = ["size_bytes", "parameters", "context_length"].map(|name| model[name].as_u64());
    assert!(numbers.iter().all(|number| *number > Some(0)), "{model}");
    assert_eq!(model["memory"]["fits"], true);
    let whole = server.api().get("/local/models/guide").json();
    assert!(
        whole["removal"]["kept"][0]["reason"].as_str().is_some_and(|why| why.contains("part of Perch")),
        "{whole}"
    );
    assert!(whole["tensors"][0]["count"].as_u64() > Some(0), "{whole}");

    let (_, stdout, _) = server.perch.run(["show", "guide"]);
    assert!(stdout.contains("built-in guide (demonstration)"), "{stdout}");
    let (code, _, stderr) = server.perch.run(["rm", "guide", "--yes"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("part of Perch and cannot be deleted"), "{stderr}");
}

#[test]
fn it_can_be_switched_off() {
    let server = Perch::new().serve::<&str>([]);
    assert!(server.api().model_ids().is_empty());
    assert_eq!(server.api().get("/local/models").json()["models"], json!([]));
    assert_eq!(server.api().chat("guide", "Hello", 8).error_code(), "model_not_found");
    let (code, stdout, stderr) = server.perch.run(["run", "Hello"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stderr.contains("no models on this machine"), "{stderr}");
}

#[test]
fn a_real_model_takes_its_place_and_none_of_its_own() {
    let perch = RandomModel::TINY.home("tiny").with_guide();
    let server = perch.serve(["--max-models", "1"]);
    let body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4});
    let answer = server.api().post("/v1/chat/completions", &body).json();
    assert_eq!(answer["model"], "tiny", "the default is the model that is installed");
    let answer = ask(&server, json!({"model": "guide", "messages": [{"role": "user", "content": "Hello"}]}));
    assert_eq!(answer["model"], "guide");
    let both = |status: &Value| status["models"].as_array().is_some_and(|models| models.len() == 2);
    server.api().until(Duration::from_secs(5), "both models are loaded", both);
}

#[test]
fn a_model_of_the_same_name_hides_it() {
    let server = RandomModel::TINY.home("guide").with_guide().serve::<&str>([]);
    let models = server.api().get("/v1/models").json();
    assert_eq!(models["data"].as_array().map(Vec::len), Some(1), "{models}");
    assert_eq!(models["data"][0]["owned_by"], "local");
}

#[test]
fn it_knows_the_first_things_that_people_ask() {
    let server = guide();
    let known = [
        ("What is Perch?", "language models"),
        ("Who are you?", "guide"),
        ("How do I start the server?", "perch serve"),
        ("How do I download a model?", "perch pull"),
        ("What is the base URL?", "http://localhost:8080/v1"),
        ("Does Perch run on Linux?", "Linux"),
        ("How do I set an API key?", "--api-key"),
        ("Thank you!", "welcome"),
        ("What is the capital of France?", "don't know"),
    ];
    for (question, word) in known {
        let answer = says(&server, question);
        assert!(answer.contains(word), "{question} {answer}");
    }
}

#[test]
fn it_calls_a_tool_through_the_api() {
    let server = guide();
    let parameters =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let function =
        json!({"name": "get_weather", "description": "Weather in a city", "parameters": parameters});
    let tools = json!([{"type": "function", "function": function}]);
    let question = json!({"role": "user", "content": "What is the weather in Paris?"});
    let answer = ask(&server, json!({"messages": [question], "tools": tools}));
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(call["function"]["name"], "get_weather");
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(arguments, json!({"city": "Paris"}), "{answer}");

    // What the tool says comes back as a sentence.
    let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let result =
        json!({"role": "tool", "tool_call_id": call["id"], "content": r#"{"sky": "sunny", "degrees": 21}"#});
    let messages = json!([{"role": "user", "content": "What is the weather in Paris?"}, called, result]);
    let answer = ask(&server, json!({"messages": messages, "tools": tools}));
    let text = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(text.contains("Paris") && text.contains("sunny") && text.contains("21"), "{answer}");
}

#[test]
fn it_answers_as_json_when_it_is_asked_to() {
    let server = guide();
    let text = says(&server, "Give me JSON with name and city: Anna lives in Paris.");
    let object: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(object, json!({"name": "Anna", "city": "Paris"}));
}
