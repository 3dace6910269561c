//! What a user configures and sees across the whole program: names, keys, aliases, models that come and go, prefixes.

use std::fs;
use std::time::Duration;

use perch_tests::{Perch, RandomModel, Server, write_config};
use serde_json::{Value, json};

fn usage(server: &Server, messages: Value) -> Value {
    let body = json!({"messages": messages, "max_tokens": 4, "temperature": 0});
    let answer = server.api().post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["usage"].clone()
}

#[test]
fn a_second_turn_prefills_only_what_is_new() {
    let server = RandomModel::TINY.home("m").serve(["--model", "m"]);
    let first = json!({"role": "user", "content": "A long first question. ".repeat(20)});
    let usage_of_first = usage(&server, json!([first]));
    assert_eq!(usage_of_first["prompt_tokens_details"]["cached_tokens"], 0);

    let answer = json!({"role": "assistant", "content": "Yes."});
    let turn = json!([first, answer, {"role": "user", "content": "And then?"}]);
    let second = usage(&server, turn);
    let (cached, first) = (
        &second["prompt_tokens_details"]["cached_tokens"],
        usage_of_first["prompt_tokens"].as_u64().unwrap(),
    );
    // Whole blocks of the first turn.
    assert!(
        cached.as_u64().unwrap() > first * 9 / 10,
        "{cached} of the first turn's {first} tokens came from the cache"
    );
}

#[test]
fn a_model_given_by_its_path_is_listed_by_its_name_and_answers_to_it() {
    let perch = Perch::new();
    let path = perch.data_dir().join("elsewhere.gguf");
    RandomModel::TINY.write(&path);
    let server = perch.serve(["--model".as_ref(), path.as_os_str()]);
    assert_eq!(server.api().model_ids(), ["elsewhere"]);
    assert_eq!(server.api().chat("elsewhere", "Hello", 2).status, 200);
    let by_path = server.api().chat(path.to_str().unwrap(), "Hello", 2);
    assert_eq!(
        (by_path.status, by_path.error_code().as_str()),
        (404, "model_not_found"),
        "a request names no paths"
    );
}

#[test]
fn models_of_the_hugging_face_cache_are_served_by_their_hub_ids() {
    let perch = Perch::new();
    let snapshot = perch.data_dir().join("hf/hub/models--org--Tiny-GGUF/snapshots/0123");
    fs::create_dir_all(&snapshot).unwrap();
    RandomModel("tiny:q8_0").write(&snapshot.join("Tiny-Q8_0.gguf"));
    let output =
        perch.command(["list", "--json"]).env("HF_HOME", perch.data_dir().join("hf")).output().unwrap();
    let models: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(models[0]["id"], "org/Tiny-GGUF:Q8_0");
    assert_eq!(models[0]["repo"], "org/Tiny-GGUF");
}

#[test]
fn a_configured_name_alias_and_default_hold_for_requests() {
    let perch = RandomModel::TINY.home("m");
    write_config(
        &perch,
        "[[models]]\nid = \"assistant\"\nrepo = \"m\"\naliases = [\"gpt-4o-mini\"]\ndefaults = { max_tokens = 3, temperature = 0 }\n",
    );
    let server = perch.serve([""; 0]);
    let api = server.api();
    assert!(api.model_ids().contains(&"assistant".to_string()));
    for name in ["assistant", "gpt-4o-mini"] {
        let body = json!({"model": name, "messages": [{"role": "user", "content": "Hello"}]});
        let answer = api.post("/v1/chat/completions", &body);
        assert_eq!(answer.json()["usage"]["completion_tokens"], 3, "{name}: {}", answer.text);
    }
}

#[test]
fn one_place_for_models_is_taken_by_whoever_is_asked_for() {
    let perch = RandomModel::TINY.home("first");
    RandomModel("tiny:q8_0").write(&perch.models_dir().join("second.gguf"));
    let server = perch.serve(["--max-models", "1"]);
    let api = server.api();
    for name in ["first", "second", "first"] {
        assert_eq!(api.chat(name, "Hello", 2).status, 200, "{name}");
        let status = api.get("/api/status").json();
        let loaded: Vec<&Value> =
            status["models"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
        assert_eq!(loaded, [name]);
    }
}

#[test]
fn an_idle_model_is_unloaded_and_loaded_again_when_it_is_asked_for() {
    let perch = RandomModel::TINY.home("m");
    write_config(&perch, "idle_ttl = \"1s\"\n");
    let server = perch.serve([""; 0]);
    let api = server.api();
    assert_eq!(api.chat("m", "Hello", 2).status, 200);
    api.until(Duration::from_secs(10), "the model is unloaded", |status| status["models"] == json!([]));
    assert_eq!(api.chat("m", "Hello", 2).status, 200);
}

#[test]
fn a_key_is_asked_of_every_route_that_shows_or_does_something() {
    let perch = RandomModel::TINY.home("m");
    let server = perch.serve(["--api-key", "a-secret"]);
    let api = server.api();
    for path in ["/v1/models", "/api/status", "/metrics"] {
        let answer = api.get(path);
        assert_eq!((answer.status, answer.error_code().as_str()), (401, "invalid_api_key"), "{path}");
    }
    assert_eq!(api.chat("m", "Hello", 2).status, 401);
    assert_eq!(api.get("/health").status, 200);
    let (code, stdout, stderr) = server.perch.run(["ps", "--url", &server.url, "--api-key", "a-secret"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("No model is loaded"), "{stdout}");
    assert!(!server.log().contains("a-secret"));
}

#[test]
fn float_weights_can_be_rounded_while_they_are_loaded() {
    let perch = Perch::new();
    let args =
        ["bench", "--random", "tiny:f32", "--quantize", "q8_0", "--repeat", "1", "--prompt", "8", "--tokens"];
    let more = ["4", "--depths", "8", "--prefix", "0", "--streams", "1", "--json"];
    let (code, stdout, stderr) = perch.run(args.iter().chain(&more));
    assert_eq!(code, Some(0), "{stderr}");
    let figures: Value = serde_json::from_str(&stdout).expect("JSON");
    let kind = figures["quantization"].as_str().unwrap();
    assert!(kind.starts_with("Q8_0"), "{kind}");

    let server = RandomModel::TINY.home("m").serve(["--model", "m", "--quantize", "q8_0"]);
    assert_eq!(server.api().chat("m", "Hello", 4).status, 200);
}
