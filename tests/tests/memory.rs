//! How much memory a loaded model takes: its file once, the KV that is in use, and little else.

use std::fs;
use std::time::Duration;

use perch_tests::{RandomModel, skip};

/// Of the file's size; the rest is scratch space and tokenizer.
const ALLOWED: f64 = 1.15;

fn check(recipe: &'static str) {
    let perch = RandomModel(recipe).home("m");
    let file = fs::metadata(perch.models_dir().join("m.gguf")).unwrap().len();
    let server = perch.serve([""; 0]);
    let api = server.api();
    // What the process takes without a model, its own code included.
    let Some(empty) = server.proc_status("VmRSS") else {
        skip!("this system has no /proc to read a process's memory from")
    };
    let long = "word ".repeat(200);
    assert_eq!(api.chat("m", &long, 16).status, 200);
    let status = api.until(Duration::from_secs(10), "idle", |status| status["models"][0]["running"] == 0);
    let kv = status["models"][0]["kv_bytes"].as_u64().unwrap();
    let peak = server.proc_status("VmHWM").unwrap() - empty;
    let allowed = (file as f64 * ALLOWED) as u64 + kv;
    println!("{recipe}: file {file}, KV {kv}, peak {peak} beyond {empty}, allowed {allowed}");
    assert!(
        peak <= allowed,
        "{recipe}: {peak} bytes for a file of {file} and {kv} of KV; {allowed} are allowed"
    );
}

#[test]
fn a_quantised_model_takes_at_most_its_file_and_fifteen_percent_beside_the_kv() {
    check("small:q4_k_m");
}

#[test]
fn a_float_model_takes_at_most_its_file_and_fifteen_percent_beside_the_kv() {
    check("small:f16");
}
