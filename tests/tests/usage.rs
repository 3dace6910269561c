//! `perch usage`: off, on, shown, taken along, erased; with a running server and without one; read by DuckDB.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use perch_tests::{Perch, RandomModel, Server, client_libraries, skip};
use serde_json::{Value, json};

/// `perch usage ARGS`, which must end well, in the home of a server or beside it.
fn usage(perch: &Perch, args: &[&str]) -> String {
    let (code, stdout, stderr) = perch.run([&["usage"], args].concat());
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    stdout
}

fn asked(server: &Server, args: &[&str]) -> String {
    usage(&server.perch, &[&["--url", &server.url], args].concat())
}

fn counting() -> Server {
    let server = RandomModel::TINY.home("tiny").serve(["--model", "tiny", "--usage"]);
    assert_eq!(server.api().chat("tiny", "Hello", 8).status, 200);
    assert_eq!(server.api().chat("no-such-model", "Hello", 8).status, 404);
    server
}

#[test]
fn it_is_off_and_says_so_and_is_switched_on_in_the_file_where_no_server_runs() {
    let perch = RandomModel::TINY.home("tiny");
    assert!(usage(&perch, &[]).contains("`perch usage on`"));
    fs::write(perch.data_dir().join("config.toml"), "# mine\nmax_models = 3\n").unwrap();
    assert!(usage(&perch, &["on"]).contains("from the next start"));
    let text = fs::read_to_string(perch.data_dir().join("config.toml")).unwrap();
    assert!(text.starts_with("# mine\n") && text.contains("[usage]\nenabled = true"), "{text}");
    assert!(usage(&perch, &[]).contains("there was none yet"));
    assert!(!perch.data_dir().join("usage.db").exists(), "looking makes no file");

    let mut server = perch.serve(["--model", "tiny"]);
    assert_eq!(server.api().chat("tiny", "Hello", 8).status, 200);
    server.signal("TERM");
    server.wait(Duration::from_secs(10));
    let by_model = usage(&server.perch, &["--by", "model"]);
    assert!(
        by_model.contains("1 requests") && by_model.lines().last().unwrap().starts_with("tiny "),
        "{by_model}"
    );
    assert!(usage(&server.perch, &["off"]).contains("not counted any more"));
    assert!(
        usage(&server.perch, &[]).contains("Requests are not counted"),
        "and what was counted is still shown"
    );
    assert!(usage(&server.perch, &["--erase", "--yes"]).contains("1 requests on 1 days"));
    assert!(!usage(&server.perch, &[]).contains("1 requests"));
}

#[test]
fn a_running_server_is_asked_and_switched_at_once() {
    let server = RandomModel::TINY.home("tiny").serve(["--model", "tiny"]);
    assert!(asked(&server, &[]).contains("Requests are not counted"));
    assert!(asked(&server, &["on"]).contains("from now on"));
    server.api().chat("tiny", "Hello", 8);
    let report: Value = serde_json::from_str(&asked(&server, &["--json", "--days", "1"])).unwrap();
    assert_eq!((&report["enabled"], &report["total"]["requests"]), (&json!(true), &json!(1)));
    asked(&server, &["off"]);
    server.api().chat("tiny", "Hello", 8);
    assert!(asked(&server, &["--erase", "--yes"]).contains("1 requests on 1 days"));
}

#[test]
fn what_a_flag_or_variable_says_is_not_overruled() {
    let server = counting();
    let (code, _, stderr) = server.perch.run(["usage", "off", "--url", &server.url]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a flag of the command line"), "{stderr}");
    let perch = Perch::new().with_env("PERCH_USAGE_ENABLED", "true");
    let (code, _, stderr) = perch.run(["usage", "off"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("PERCH_USAGE_ENABLED"), "{stderr}");
}

#[test]
fn nothing_is_erased_unless_somebody_says_so() {
    let perch = Perch::new();
    let (code, _, stderr) = perch.run(["usage", "--erase"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--yes"), "{stderr}");
    let (code, _, stderr) = perch.run(["usage", "--export", "usage.xlsx"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(".parquet"), "{stderr}");
}

#[test]
fn a_server_that_is_killed_loses_seconds_at_most() {
    let server = counting();
    // What was asked before is written down when the counts are asked for.
    assert!(asked(&server, &[]).contains("2 requests"));
    server.api().chat("tiny", "Hello", 8);
    std::thread::sleep(Duration::from_millis(2500));
    server.signal("KILL");
    let (code, stdout, stderr) = server.perch.run(["usage"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("3 requests"), "{stdout}");
}

#[test]
fn duckdb_reads_both_exports_alike_with_and_without_a_server() {
    let python = match client_libraries("TESTS_PYTHON") {
        Ok(python) => python,
        Err(reason) => skip!("{reason}"),
    };
    let there = Command::new(&python).args(["-c", "import duckdb"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip!("that Python has no duckdb");
    }
    let mut server = counting();
    let folder = server.perch.home().to_owned();
    let file = |name: &str| folder.join(name).display().to_string();
    for name in ["online.csv", "online.parquet"] {
        assert!(asked(&server, &["--export", &file(name)]).contains(name));
    }
    server.signal("TERM");
    server.wait(Duration::from_secs(10));
    for name in ["offline.csv", "offline.parquet"] {
        usage(&server.perch, &["--export", &file(name), "--days", "7"]);
    }
    let read = |name: &str| {
        let script = "import duckdb, json, sys\n\
                      found = duckdb.sql(f\"SELECT * FROM '{sys.argv[1]}' ORDER BY coalesce(model, '')\")\n\
                      print(json.dumps([dict(zip(found.columns, row)) for row in found.fetchall()], default=str))";
        let output = Command::new(&python).args(["-c", script]).arg(Path::new(&file(name))).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let rows = read("online.parquet");
    assert_eq!(rows.as_array().map(Vec::len), Some(2), "{rows}");
    let tiny = &rows[1];
    assert_eq!((&tiny["model"], &tiny["requests"], &tiny["failed"]), (&json!("tiny"), &json!(1), &json!(0)));
    assert!(tiny["completion_tokens"].as_u64() > Some(0) && tiny["duration_p99_ms"].is_u64(), "{tiny}");
    assert_eq!(rows[0]["errors"], r#"{"model_not_found":1}"#);
    assert_eq!(rows[0]["duration_p50_ms"], Value::Null);
    assert_eq!(read("offline.parquet"), rows);
    for name in ["online.csv", "offline.csv"] {
        let csv = read(name);
        for at in 0..2 {
            // An empty text and nothing look the same in a CSV.
            for key in
                ["day", "requests", "prompt_tokens", "completion_tokens", "first_token_p50_ms", "errors"]
            {
                assert_eq!(csv[at][key], rows[at][key], "{name}: {key}");
            }
        }
    }
}
