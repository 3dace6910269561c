//! The process as its user meets it: how it starts, refuses, drains and ends.

use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use perch_tests::{Perch, RandomModel, write_config};
use serde_json::json;

/// What draining may take, and what starting and ending the process adds on a busy machine.
const DRAIN: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(3);

fn long_chat(tokens: usize) -> serde_json::Value {
    json!({
        "model": "m", "messages": [{"role": "user", "content": "Go on."}],
        "max_tokens": tokens, "temperature": 0, "stream": true
    })
}

#[test]
fn port_zero_picks_a_free_port_and_the_first_line_names_it() {
    let server = Perch::new().serve([""; 0]);
    let port = server.url.strip_prefix("http://127.0.0.1:").expect(&server.url);
    assert_ne!(port.parse::<u16>().expect("a port"), 0);
    assert_eq!(server.api().get("/health").status, 200);
    assert_eq!(server.api().model_ids(), [""; 0]);
}

#[test]
fn a_taken_port_is_named_with_the_process_that_holds_it() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let (code, stdout, stderr) = Perch::new().run(["serve", "--port", &port]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains(&port), "{stderr}");
    assert!(stderr.contains(&std::process::id().to_string()), "this test's process is not named: {stderr}");
    assert!(!stderr.contains("backtrace"), "{stderr}");
}

#[test]
fn listening_for_other_machines_needs_a_key() {
    let (code, _, stderr) = Perch::new().run(["serve", "--port", "0", "--host", "0.0.0.0"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("key"), "{stderr}");
}

#[test]
fn an_unknown_key_in_the_configuration_is_named_with_its_file() {
    let perch = Perch::new();
    write_config(&perch, "prot = 8080\n");
    let (code, _, stderr) = perch.run(["serve"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("config.toml") && stderr.contains("prot"), "{stderr}");
}

#[test]
fn a_model_that_is_not_there_ends_the_start_with_a_suggestion() {
    let perch = RandomModel::TINY.home("story-teller");
    let (code, _, stderr) = perch.run(["serve", "--port", "0", "--model", "story-taler"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("story-teller"), "{stderr}");
}

#[test]
fn sigterm_lets_a_running_answer_finish_and_takes_no_new_ones() {
    let mut server = RandomModel::TINY.home("m").serve(["--model", "m"]);
    let mut events = server.api().stream("/v1/chat/completions", &long_chat(300));
    events.next().expect("a first event");
    server.signal("TERM");
    let start = Instant::now();
    let reasons: Vec<String> = events
        .filter_map(|event| event["choices"][0]["finish_reason"].as_str().map(str::to_string))
        .collect();
    assert_eq!(reasons, ["length"]);
    assert!(server.wait(DRAIN + SLACK).success(), "{}", server.log());
    assert!(start.elapsed() < DRAIN + SLACK);
    assert!(std::net::TcpStream::connect(server.url.trim_start_matches("http://")).is_err());
}

#[test]
fn an_answer_that_outlasts_the_drain_ends_with_an_error_and_not_in_silence() {
    let mut server = RandomModel("small:q4_0").home("m").serve(["--model", "m"]);
    let mut events = server.api().stream("/v1/chat/completions", &long_chat(4000));
    events.next().expect("a first event");
    server.signal("TERM");
    let start = Instant::now();
    let last = events.last().expect("more events");
    let done = last["choices"][0]["finish_reason"].is_string();
    assert!(done || last["error"]["code"].is_string(), "the last event was {last}");
    server.wait(DRAIN + SLACK);
    assert!(start.elapsed() < DRAIN + SLACK, "{:?}", start.elapsed());
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let mut server = RandomModel("small:q4_0").home("m").serve(["--model", "m"]);
    let mut events = server.api().stream("/v1/chat/completions", &long_chat(4000));
    events.next().expect("a first event");
    server.signal("INT");
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    server.signal("INT");
    server.wait(Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn run_answers_once_with_the_only_model_there_is() {
    let perch = RandomModel::TINY.home("m");
    let (code, stdout, stderr) =
        perch.run(["run", "--max-tokens", "10", "--temperature", "0", "Say something"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(!stdout.trim().is_empty() && stdout.ends_with('\n'), "{stdout:?}");
    let (_, again, _) = perch.run(["run", "m", "--max-tokens", "10", "--temperature", "0", "Say something"]);
    assert_eq!(again, stdout, "the model by its name answers the same");
}

#[test]
fn run_reads_what_is_piped_in() {
    let perch = RandomModel::TINY.home("m");
    let answer = |args: &[&str], input: &str| {
        let words = ["run", "--max-tokens", "10", "--temperature", "0"].iter().chain(args);
        let mut child =
            perch.command(words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("perch runs");
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().expect("perch ends");
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let piped = answer(&["Summarise:"], "a letter\n");
    assert_ne!(piped, answer(&["Summarise:"], "another\n"));
    let (_, whole, _) =
        perch.run(["run", "--max-tokens", "10", "--temperature", "0", "Summarise:\n\na letter"]);
    assert_eq!(piped, whole);
    assert!(!answer(&[], "only piped").trim().is_empty());
}

#[test]
fn run_with_an_unknown_model_fails_with_a_suggestion_and_without_a_backtrace() {
    let perch = RandomModel::TINY.home("story-teller");
    let (code, stdout, stderr) = perch.run(["run", "story-taler", "Hello"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("story-teller"), "{stderr}");
}

#[test]
fn list_shows_models_as_a_table_and_as_json() {
    let perch = RandomModel("tiny:q8_0").home("m-Q8_0");
    let (code, stdout, _) = perch.run(["list"]);
    assert_eq!(code, Some(0));
    assert!(stdout.contains("m-Q8_0") && stdout.contains("Q8_0"), "{stdout}");
    let (_, stdout, _) = perch.run(["list", "--json"]);
    let models: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(models[0]["id"], "m-Q8_0");
    assert_eq!(models[0]["format"], "gguf");
}

#[test]
fn ps_shows_a_running_server_and_says_so_where_there_is_none() {
    let server = RandomModel::TINY.home("m").serve(["--model", "m"]);
    server.api().until(Duration::from_secs(30), "loaded", |status| status["models"][0]["state"] == "ready");
    let (code, stdout, stderr) = server.perch.run(["ps", "--url", &server.url]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("ready") && stdout.contains(&server.url), "{stdout}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, stderr) = server.perch.run(["ps", "--url", &format!("http://{nobody}")]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("perch serve"), "{stderr}");
}

#[test]
fn bench_measures_a_random_model_and_prints_json() {
    let args =
        ["bench", "--random", "tiny:q8_0", "--repeat", "1", "--prompt", "64", "--depths", "16", "--prefix"];
    let more = ["128", "--streams", "1,2", "--tokens", "8", "--json"];
    let (code, stdout, stderr) = Perch::new().run(args.iter().chain(&more));
    assert_eq!(code, Some(0), "{stderr}");
    let figures: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    for figure in
        ["/prefill/per_s", "/decode/0/per_s", "/first_token/cold_ms", "/throughput/1/per_s", "/load_s"]
    {
        assert!(
            figures.pointer(figure).and_then(serde_json::Value::as_f64) > Some(0.0),
            "{figure}: {figures:#}"
        );
    }
    assert!(figures["first_token"]["cached_tokens"].as_u64() > Some(0), "{figures:#}");
    assert!(figures["memory"]["peak_bytes"].as_u64() > Some(1 << 20), "{figures:#}");
}

#[test]
fn version_and_help_go_to_standard_output() {
    let perch = Perch::new();
    let (code, stdout, _) = perch.run(["--version"]);
    assert_eq!((code, stdout.as_str()), (Some(0), concat!("perch ", env!("CARGO_PKG_VERSION"), "\n")));
    for command in ["serve", "run", "list", "ps", "bench"] {
        let (code, stdout, _) = perch.run([command, "--help"]);
        assert_eq!(code, Some(0));
        assert!(stdout.contains("Usage: perch"), "{stdout}");
    }
    assert_eq!(perch.run(["no-such-command"]).0, Some(2));
}
