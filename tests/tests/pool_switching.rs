//! Models that come and go in the real program: one load however many wait, eviction beside running streams, memory that
//! does not suffice, models that are unloaded while in use.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use perch_tests::{Perch, RandomModel, Server, write_config};
use serde_json::{Value, json};

const CLIENTS: usize = 50;
const SOON: Duration = Duration::from_secs(60);

/// Two models, of which the first takes its time to answer.
fn two_models() -> Perch {
    let perch = RandomModel("small:q4_0").home("first");
    RandomModel::TINY.write(&perch.models_dir().join("second.gguf"));
    perch
}

fn chat(model: &str, tokens: usize) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": tokens,
        "temperature": 0, "stream": true})
}

fn loaded(server: &Server) -> Vec<String> {
    let status = server.api().get("/api/status").json();
    let models = status["models"].as_array().expect("a list of models").clone();
    models.iter().map(|model| model["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn fifty_clients_of_a_model_that_is_loading_cause_one_load() {
    let server = RandomModel("small:q4_0").home("m").serve([""; 0]);
    let barrier = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            server.api().chat("m", "Hello", 2).status
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
    });
    let log = server.log();
    assert_eq!(log.matches(" loaded ").count(), 1, "{log}");
}

#[test]
fn a_stream_is_left_to_end_before_its_model_makes_room() {
    let server = two_models().serve(["--max-models", "1"]);
    let mut stream = server.api().stream("/v1/chat/completions", &chat("first", 60));
    stream.next().expect("a first event");
    thread::scope(|scope| {
        let other = scope.spawn(|| server.api().chat("second", "Hello", 2));
        let last = stream.last().expect("more events");
        assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
        assert_eq!(other.join().unwrap().status, 200);
    });
    assert_eq!(loaded(&server), ["second"]);
}

#[test]
fn memory_that_does_not_suffice_is_told_with_numbers_and_idle_models_make_room() {
    let perch = two_models();
    // The one takes 175 MiB, the other 66: either fits, but not both.
    write_config(&perch, "kv_budget = \"64MiB\"\nmemory_limit = \"200MiB\"\n");
    let server = perch.serve([""; 0]);
    for model in ["first", "second", "first"] {
        let answer = server.api().chat(model, "Hello", 2);
        assert_eq!(answer.status, 200, "{model}: {}", answer.text);
        assert_eq!(loaded(&server), [model]);
    }

    let perch = two_models();
    write_config(&perch, "memory_limit = \"1MiB\"\n");
    let server = perch.serve([""; 0]);
    let answer = server.api().chat("first", "Hello", 2);
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "insufficient_memory"));
    assert!(answer.header("retry-after").is_some());
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    for part in ["of weights", "of KV cache", "to compute in", "1.0 MiB are free", "`memory_limit`"] {
        assert!(message.contains(part), "{message}");
    }
}

/// What is rounded while it is loaded needs the memory of what comes out, not of the file.
#[test]
fn rounding_on_load_makes_a_model_fit() {
    let perch = RandomModel("small:f32").home("m");
    let file = std::fs::metadata(perch.models_dir().join("m.gguf")).unwrap().len();
    let limit = format!(
        "memory_limit = {}\nkv_budget = \"1MiB\"\ncontext = 256\nmax_batch_tokens = 64\n\
                         max_sequences = 2\n",
        file * 2 / 3
    );
    write_config(&perch, &limit);
    let server = perch.serve([""; 0]);
    let answer = server.api().chat("m", "Hello", 2);
    assert_eq!(answer.error_code(), "insufficient_memory", "{}", answer.text);
    write_config(&server.perch, &limit);
    std::fs::write(
        server.perch.data_dir().join("models.toml"),
        "[[models]]\nid = \"m\"\nquantize = \"q8_0\"\n",
    )
    .unwrap();
    assert_eq!(server.api().post("/v1/admin/reload", &json!({})).status, 200);
    let answer = server.api().chat("m", "Hello", 2);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let weights = server.api().get("/api/status").json()["models"][0]["weight_bytes"].as_u64().unwrap();
    // 34 bytes for 32 weights, against 128.
    assert!((file * 26 / 100..file * 30 / 100).contains(&weights), "{weights} bytes of a file of {file}");
}

#[test]
fn a_model_in_use_is_unloaded_only_if_that_was_said() {
    let server = two_models().serve(["--model", "first"]);
    let api = server.api();
    let mut stream = api.stream("/v1/chat/completions", &chat("first", 4000));
    stream.next().expect("a first event");
    let unload = |how: &str| api.post("/api/v1/unload-model", &json!({"model": "first", "in_use": how}));
    let refused = unload("refuse");
    assert_eq!((refused.status, refused.error_code().as_str()), (409, "conflict"));
    let done = unload("cancel");
    assert_eq!((done.status, &done.json()["unloaded"]), (200, &json!(true)));
    let last = stream.last().expect("an end");
    assert_eq!(last["error"]["code"], "model_restarting", "{last}");
    assert_eq!(loaded(&server), [""; 0]);
}

#[test]
fn commands_load_unload_and_pin_in_a_running_server() {
    let server = two_models().serve(["--max-models", "1"]);
    let perch = |args: &[&str]| {
        let (code, stdout, stderr) = server.perch.run(args.iter().copied().chain(["--url", &server.url]));
        (code, stdout, stderr)
    };
    let (code, stdout, stderr) = perch(&["load", "second", "--pin"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("second is loaded") && stdout.contains("pinned"), "{stdout}");
    let (_, stdout, _) = perch(&["ps"]);
    assert!(stdout.contains("second") && stdout.contains("pinned"), "{stdout}");
    let (code, _, stderr) = perch(&["load", "first"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("`second` is pinned"), "{stderr}");
    let (code, stdout, stderr) = perch(&["unload", "second", "--unpin"]);
    assert_eq!((code, stdout.trim()), (Some(0), "second is unloaded"), "{stderr}");
    let (code, stdout, _) = perch(&["load", "first", "--keep-alive", "0"]);
    assert_eq!(code, Some(0), "{stdout}");
    server.api().until(SOON, "it has left", |status| status["models"] == json!([]));
    let (code, stdout, _) = perch(&["unload", "first"]);
    assert_eq!((code, stdout.trim()), (Some(0), "first was not loaded"));
    let (code, _, stderr) = perch(&["load", "third"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("there is no model `third`"), "{stderr}");
}

/// `cargo test -p perch-tests --release --test pool_switching -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check"]
fn switching_between_two_models_takes_so_long() {
    const ROUNDS: usize = 21;
    for places in ["2", "1"] {
        let perch = Perch::new();
        for (model, recipe) in [("first", RandomModel::TINY), ("second", RandomModel("tiny:q8_0"))] {
            recipe.write(&perch.models_dir().join(format!("{model}.gguf")));
        }
        let server = perch.serve(["--max-models", places]);
        let ask = |model: &str| {
            let begun = std::time::Instant::now();
            assert_eq!(server.api().chat(model, "Hello", 1).status, 200);
            begun.elapsed()
        };
        ask("first");
        ask("second");
        let mut times: Vec<_> = (0..ROUNDS).map(|round| ask(["first", "second"][round % 2])).collect();
        times.sort();
        println!("the other of two tiny models with {places} places: {:?} median", times[ROUNDS / 2]);
    }
    let Ok(stories) = perch_tests::stories() else { return };
    let server = Perch::new().serve(["--models-dir".as_ref(), stories.parent().unwrap().as_os_str()]);
    let api = server.api();
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let begun = std::time::Instant::now();
            let answer = api.post("/api/v1/load-model", &json!({"model": "stories260k"}));
            assert_eq!(answer.status, 200, "{}", answer.text);
            let taken = begun.elapsed();
            assert_eq!(api.post("/api/v1/unload-model", &json!({"model": "stories260k"})).status, 200);
            taken
        })
        .collect();
    times.sort();
    println!("the stories model, loaded: {:?} median", times[ROUNDS / 2]);
}
