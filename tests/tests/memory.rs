//! How much memory a loaded model takes: its file once, the KV that is in use, and little else.

use std::fs;
use std::time::Duration;

use perch_tests::{RandomModel, skip};

/// Of the file's size: tokenizer, scratch space of a prefill and all else that comes with a model.
const ALLOWED: f64 = 1.15;

#[test]
fn a_model_of_real_size_takes_at_most_its_file_and_fifteen_percent_beside_the_kv() {
    let perch = RandomModel("qwen3-0.6b:q8_0").home("m");
    let file = fs::metadata(perch.models_dir().join("m.gguf")).unwrap().len();
    let server = perch.serve([""; 0]);
    let api = server.api();
    let Some(empty) = server.proc_status("VmRSS") else {
        skip!("this system has no /proc to read a process's memory from")
    };
    // More than one step's worth of prompt, so that scratch space is as large as it gets.
    assert_eq!(api.chat("m", &"word ".repeat(150), 8).status, 200);
    let status = api.until(Duration::from_secs(10), "idle", |status| status["models"][0]["running"] == 0);
    let kv = status["models"][0]["kv_bytes"].as_u64().unwrap();
    let peak = server.proc_status("VmHWM").unwrap() - empty;
    let allowed = (file as f64 * ALLOWED) as u64 + kv;
    assert!(peak <= allowed, "{peak} bytes for a file of {file} and {kv} of KV; {allowed} are allowed");
}
