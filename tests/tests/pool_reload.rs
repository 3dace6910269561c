//! Configuration that changes under a running program, and the program rebuilt in place.

use std::fs;
use std::thread;
use std::time::Duration;

use perch_tests::{Perch, RandomModel, Server, write_config};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

fn write_models(perch: &Perch, text: &str) {
    fs::write(perch.data_dir().join("models.toml"), text).expect("the data folder can be written to");
}

fn reload(server: &Server) -> perch_tests::Answer {
    server.api().post("/v1/admin/reload", &json!({}))
}

fn ready(status: &Value) -> bool {
    status["models"][0]["state"] == "ready"
}

#[test]
fn a_damaged_models_file_changes_nothing_and_is_named_with_its_line() {
    let perch = RandomModel::TINY.home("m");
    write_models(&perch, "[[models]]\nid = \"m\"\naliases = [\"helper\"]\n");
    let server = perch.serve([""; 0]);
    assert_eq!(server.api().chat("helper", "Hello", 2).status, 200);
    write_models(&server.perch, "[[models]]\nid = \"m\"\nalias = \"other\"\n");
    let answer = reload(&server);
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "invalid_value"));
    for part in ["models.toml", "line 3", "`alias`", "nothing was changed"] {
        assert!(answer.text.contains(part), "{}", answer.text);
    }
    assert_eq!(server.api().chat("helper", "Hello", 2).status, 200);

    write_models(&server.perch, "[[models]]\nid = \"m\"\naliases = [\"other\", \"claude-*\"]\n");
    assert_eq!(reload(&server).status, 200);
    assert_eq!(server.api().chat("helper", "Hello", 2).status, 404);
    for name in ["other", "claude-sonnet-5", "m"] {
        let answer = server.api().chat(name, "Hello", 2);
        assert_eq!((answer.status, &answer.json()["model"]), (200, &json!("m")), "{name}");
    }
}

#[test]
fn a_model_that_was_copied_in_or_replaced_is_used_without_a_restart() {
    let server = RandomModel::TINY.home("m").serve([""; 0]);
    let api = server.api();
    let body = json!({"model": "m", "prompt": "Once", "max_tokens": 16, "temperature": 0});
    let text = |answer: perch_tests::Answer| answer.json()["choices"][0]["text"].clone();
    let before = text(api.post("/v1/completions", &body));
    assert_eq!(api.chat("late", "Hello", 2).status, 404);
    RandomModel("tiny:q8_0").write(&server.perch.models_dir().join("late.gguf"));
    assert_eq!(api.chat("late", "Hello", 2).status, 200);
    assert!(api.model_ids().contains(&"late".to_owned()));

    // Another file under the same name, moved into place as downloads do.
    let beside = server.perch.data_dir().join("beside.gguf");
    RandomModel("tiny:q4_0").write(&beside);
    fs::rename(&beside, server.perch.models_dir().join("m.gguf")).unwrap();
    let reloaded = reload(&server).json();
    assert_eq!(reloaded["outdated"], json!(["m"]));
    assert_ne!(text(api.post("/v1/completions", &body)), before);
}

#[test]
fn a_restart_in_place_lets_streams_end_and_requests_wait() {
    let mut server = RandomModel("small:q4_0").home("m").serve(["--model", "m"]);
    let api = server.api();
    api.until(SOON, "loaded", ready);
    let chat = |tokens: usize| {
        json!({"model": "m", "messages": [{"role": "user", "content": "Go on."}], "max_tokens": tokens,
            "temperature": 0, "stream": true})
    };
    let mut short = api.stream("/v1/chat/completions", &chat(20));
    let mut long = api.stream("/v1/chat/completions", &chat(4000));
    short.next().expect("a first event");
    long.next().expect("a first event");
    let pid = server.pid();
    thread::scope(|scope| {
        let restarting = scope.spawn(|| api.post("/v1/admin/restart", &json!({})));
        thread::sleep(Duration::from_millis(200));
        let waiting = scope.spawn(|| api.chat("m", "Hello", 2));
        let ended = short.last().expect("more events");
        assert_eq!(ended["choices"][0]["finish_reason"], "length", "{ended}");
        let cut = long.last().expect("more events");
        let whole = cut["choices"][0]["finish_reason"].is_string();
        assert!(whole || cut["error"]["code"] == "model_restarting", "{cut}");
        let answer = restarting.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["loading"], json!(["m"]));
        assert_eq!(waiting.join().unwrap().status, 200);
    });
    assert_eq!(server.log().matches(" loaded ").count(), 2, "{}", server.log());
    assert_eq!(server.pid(), pid);
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(8)).success());
}

#[test]
fn what_the_user_chose_holds_after_the_program_was_started_again() {
    let perch = RandomModel::TINY.home("a");
    RandomModel("tiny:q8_0").write(&perch.models_dir().join("b.gguf"));
    let mut server = perch.serve([""; 0]);
    let put = |server: &Server, model: &str| server.api().put("/api/default-model", &json!({"model": model}));
    assert_eq!(put(&server, "a").json(), json!({"model": "a", "source": "chosen"}));
    let url = server.url.clone();
    server.signal("TERM");
    server.wait(Duration::from_secs(8));
    let again = server.again();
    assert_ne!(again.url, url);
    assert_eq!(again.api().get("/api/default-model").json(), json!({"model": "a", "source": "chosen"}));
    let body = json!({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2});
    assert_eq!(again.api().post("/v1/chat/completions", &body).json()["model"], "a");
    write_config(&again.perch, "");
}
