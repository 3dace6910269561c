//! Downloads from a hub that misbehaves: what arrives is right or does not arrive, and nothing is fetched twice.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use perch_tests::{Api, HubRepo, LocalHub, Perch, RandomModel, Server, client_libraries, oid, skip};
use serde_json::{Value, json};

/// A home whose hub is `hub`.
fn home(hub: &LocalHub) -> Perch {
    Perch::new().with_env("HF_ENDPOINT", &hub.url).with_env("NO_PROXY", "127.0.0.1")
}

fn cache(perch: &Perch) -> PathBuf {
    perch.home().join(".cache/huggingface/hub")
}

/// Bytes without a pattern, the same for the same seed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(len).collect()
}

/// The file of a repository's snapshot, as the cache's users find it.
fn downloaded(perch: &Perch, repo: &str, file: &str) -> Option<Vec<u8>> {
    let folder = cache(perch).join(format!("models--{}", repo.replace('/', "--")));
    let commit = fs::read_to_string(folder.join("refs/main")).ok()?;
    fs::read(folder.join("snapshots").join(commit).join(file)).ok()
}

fn pull(perch: &Perch, args: &[&str]) -> (Option<i32>, String, String) {
    perch.run(["pull"].iter().chain(args))
}

fn delete(server: &Server, path: &str) -> u16 {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    agent.delete(format!("{}{path}", server.url)).call().expect("the server answers").status().as_u16()
}

/// Waits until the first download is `state`.
fn until(api: &Api, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let list = api.get("/local/downloads").json();
        if list["downloads"][0]["state"] == state {
            return list["downloads"][0].clone();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "not {state}: {list:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_pull_that_is_killed_again_and_again_goes_on_and_ends_right() {
    let (hub, content) = (LocalHub::new(), noise(8 << 20, 7));
    hub.put_files("o/m-GGUF", &[("m-Q4_K_M.gguf", &content), ("README.md", b"# m")]);
    hub.faults().rate = Some(6 << 20);
    let perch = home(&hub);
    let mut waits = noise(64, 99).into_iter();
    let mut kills = 0;
    let ended = loop {
        let mut child =
            perch.command(["pull", "o/m-GGUF"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let wait = 60 + u64::from(waits.next().unwrap_or(255)) * 2;
        thread::sleep(Duration::from_millis(wait));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if kills == 25 {
            break child.wait().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q4_K_M.gguf"), None, "a part has no final name");
    };
    assert!(ended.success());
    assert!(kills >= 3, "only {kills}");
    assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q4_K_M.gguf").as_deref(), Some(&content[..]));
    assert!(hub.seen().iter().any(|seen| seen.elsewhere && seen.range.is_some()), "it goes on by range");
    // What was in the air at each kill comes again; the file does not.
    let sent = hub.sent();
    assert!(sent < content.len() as u64 + (kills + 1) * (2 << 20), "{sent} bytes for {kills} kills");
}

#[test]
fn connections_that_break_and_servers_that_fail_are_tried_again_from_where_they_broke() {
    let (hub, content) = (LocalHub::new(), noise(3 << 20, 3));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    hub.faults().cut_after = Some(700 << 10);
    hub.faults().statuses = [(503, 0), (429, 1), (500, 0)].into();
    let perch = home(&hub);
    let (code, stdout, stderr) = pull(&perch, &["o/m-GGUF"]);
    assert_eq!((code, stdout.trim()), (Some(0), "o/m-GGUF:Q8_0"), "{stderr}");
    assert!(stderr.contains("trying again"), "{stderr}");
    assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&content[..]));
    // A connection that breaks takes with it what was on the way.
    assert!(hub.sent() < content.len() as u64 * 2, "{} bytes", hub.sent());
}

#[test]
fn a_connection_that_falls_silent_is_left_for_another() {
    let (hub, content) = (LocalHub::new(), noise(3 << 20, 11));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    hub.faults().silent_after = Some(1 << 20);
    let perch = home(&hub).with_env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
    let (code, _, stderr) = pull(&perch, &["o/m-GGUF"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("no answer in time"), "{stderr}");
    assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&content[..]));
    assert_eq!(hub.sent(), content.len() as u64, "what came before the silence is not fetched again");
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (hub, content) = (LocalHub::new(), noise(1 << 20, 5));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    let perch = home(&hub);
    let blobs = cache(&perch).join("models--o--m-GGUF/blobs");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(format!("{}.incomplete", oid(&content))), &content[..400_000]).unwrap();
    hub.faults().no_ranges = true;
    assert_eq!(pull(&perch, &["o/m-GGUF"]).0, Some(0));
    assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&content[..]));
}

#[test]
fn a_corrupted_body_is_refused_and_leaves_nothing_behind() {
    let (hub, content) = (LocalHub::new(), noise(1 << 20, 9));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    hub.faults().corrupt = true;
    let perch = home(&hub);
    let (code, _, stderr) = pull(&perch, &["o/m-GGUF"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("checksum"), "{stderr}");
    let left = fs::read_dir(cache(&perch).join("models--o--m-GGUF/blobs")).unwrap().count();
    assert_eq!(left, 0);
    // A part from before that is wrong costs a fresh start, no more.
    hub.faults().corrupt = false;
    let blobs = cache(&perch).join("models--o--m-GGUF/blobs");
    fs::write(blobs.join(format!("{}.incomplete", oid(&content))), noise(500_000, 1)).unwrap();
    assert_eq!(pull(&perch, &["o/m-GGUF"]).0, Some(0));
    assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&content[..]));
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_where_it_redirects() {
    let (hub, content) = (LocalHub::new(), noise(1 << 20, 2));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    let perch = home(&hub).with_env("HF_TOKEN", "hf_secret");
    let (code, _, stderr) = pull(&perch, &["o/m-GGUF"]);
    assert_eq!(code, Some(0), "{stderr}");
    let seen = hub.seen();
    assert!(seen.iter().any(|seen| seen.elsewhere));
    for seen in seen {
        let expected = (!seen.elsewhere).then_some("Bearer hf_secret");
        assert_eq!(seen.authorization.as_deref(), expected, "{}", seen.path);
    }
}

#[test]
fn what_the_hub_refuses_is_said_with_what_to_do() {
    let hub = LocalHub::new();
    let gated = [("m-Q8_0.gguf".to_string(), noise(8_192, 1).into())].into();
    hub.put("o/gated-GGUF", HubRepo { gated: true, files: gated, ..HubRepo::default() });
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &noise(8_192, 2))]);
    hub.put_files("o/nothing", &[("README.md", b"#")]);
    let perch = home(&hub);
    let says = |args: &[&str], words: &[&str]| {
        let (code, stdout, stderr) = pull(&perch, args);
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}");
        for word in words {
            assert!(stderr.contains(word), "{args:?}: {stderr}");
        }
    };
    says(&["o/gated-GGUF"], &["gated", &format!("{}/o/gated-GGUF", hub.url), "HF_TOKEN"]);
    says(&["o/absent"], &["o/absent", "spelling"]);
    says(&["o/m-GGUF:Q2_K"], &["Q2_K", "Q8_0"]);
    says(&["o/nothing"], &["GGUF"]);
    says(&["o/m-GGUF", "--revision", "v9"], &["v9"]);
    says(&["../m"], &["author/name"]);
    let (code, _, stderr) = home(&hub).with_env("HF_HUB_OFFLINE", "1").run(["pull", "o/m-GGUF"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
    let (code, _, stderr) =
        home(&hub).with_env("HF_ENDPOINT", "http://127.0.0.1:9").run(["pull", "o/m-GGUF"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot reach 127.0.0.1:9"), "{stderr}");
}

#[test]
fn names_that_would_leave_the_cache_are_never_written() {
    let hub = LocalHub::new();
    let long = "x".repeat(300);
    let hostile =
        ["../../../evil.json", "/tmp/evil.json", "con.json", &long, "a\\b.json"].map(str::to_string);
    let files = [("m-Q8_0.gguf".to_string(), noise(8_192, 1).into())].into();
    hub.put("o/m", HubRepo { files, hostile: hostile.to_vec(), ..HubRepo::default() });
    let same =
        [("a.json".to_string(), noise(10, 1).into()), ("A.json".to_string(), noise(10, 2).into())].into();
    hub.put("o/same", HubRepo { files: same, ..HubRepo::default() });
    let perch = home(&hub);
    assert_eq!(pull(&perch, &["o/m"]).0, Some(0));
    let (code, _, stderr) = pull(&perch, &["o/m", "--file", "*"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("stored safely"), "{stderr}");
    let (code, _, stderr) = pull(&perch, &["o/same", "--file", "*"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("a.json") && stderr.contains("A.json"), "{stderr}");
    assert!(!perch.home().join("evil.json").exists() && !perch.home().join(".cache/evil.json").exists());
}

#[test]
fn two_processes_that_want_the_same_file_fetch_it_once() {
    let (hub, content) = (LocalHub::new(), noise(6 << 20, 4));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    hub.faults().rate = Some(8 << 20);
    let perch = home(&hub);
    let both = [0, 1]
        .map(|_| perch.command(["pull", "o/m-GGUF"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn());
    for child in both {
        assert!(child.unwrap().wait().unwrap().success());
    }
    assert_eq!(downloaded(&perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&content[..]));
    assert_eq!(hub.sent(), content.len() as u64);
}

#[test]
fn a_file_that_changes_while_a_download_stands_still_is_fetched_anew() {
    let (hub, old, new) = (LocalHub::new(), noise(4 << 20, 1), noise(4 << 20, 2));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &old)]);
    hub.faults().rate = Some(2 << 20);
    let server = home(&hub).serve([""; 0]);
    let api = server.api();
    assert_eq!(api.post("/local/download", &json!({"model": "o/m-GGUF"})).status, 202);
    until(&api, "downloading");
    thread::sleep(Duration::from_millis(600));
    let id = api.get("/local/downloads").json()["downloads"][0]["id"].as_str().unwrap().to_string();
    assert_eq!(api.post(&format!("/local/download/{id}/pause"), &json!({})).json()["state"], "paused");
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &new)]);
    hub.faults().rate = None;
    assert_eq!(api.post(&format!("/local/download/{id}/resume"), &json!({})).status, 200);
    until(&api, "completed");
    assert_eq!(downloaded(&server.perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&new[..]));
}

#[test]
fn a_model_that_was_downloaded_answers_at_once() {
    let folder = tempfile::tempdir().unwrap();
    RandomModel("tiny:q8_0").write(&folder.path().join("m.gguf"));
    let hub = LocalHub::new();
    hub.put_files("o/tiny-GGUF", &[("tiny-Q8_0.gguf", &fs::read(folder.path().join("m.gguf")).unwrap())]);
    let server = home(&hub).serve([""; 0]);
    let api = server.api();
    assert_eq!(api.model_ids(), Vec::<String>::new());
    let begun = api.post("/local/download", &json!({"model": "o/tiny-GGUF"}));
    assert_eq!((begun.status, &begun.json()["model"]), (202, &json!("o/tiny-GGUF:Q8_0")));
    let again = api.post("/local/download", &json!({"model": "o/tiny-GGUF", "quantization": "q8_0"})).json();
    assert_eq!(again["id"], begun.json()["id"], "one download for the same files");
    let done = until(&api, "completed");
    assert_eq!(done["done_bytes"], done["total_bytes"]);
    assert_eq!(api.chat("o/tiny-GGUF:Q8_0", "Hello", 3).status, 200);
}

#[test]
fn a_server_that_was_killed_goes_on_with_its_downloads_and_leaves_paused_ones_alone() {
    let (hub, content) = (LocalHub::new(), noise(4 << 20, 8));
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &content)]);
    hub.put_files("o/n-GGUF", &[("n-Q8_0.gguf", &noise(1 << 20, 6))]);
    hub.faults().rate = Some(1 << 20);
    let server = home(&hub).serve([""; 0]);
    let api = server.api();
    assert_eq!(api.post("/local/download", &json!({"model": "o/m-GGUF"})).status, 202);
    let other =
        api.post("/local/download", &json!({"model": "o/n-GGUF"})).json()["id"].as_str().unwrap().to_string();
    assert_eq!(api.post(&format!("/local/download/{other}/pause"), &json!({})).status, 200);
    until(&api, "downloading");
    thread::sleep(Duration::from_millis(500));
    server.signal("KILL");
    hub.faults().rate = None;
    let server = server.again();
    let api = server.api();
    until(&api, "completed");
    let list = api.get("/local/downloads").json();
    assert_eq!(list["downloads"][1]["state"], "paused", "{list:#}");
    assert_eq!(downloaded(&server.perch, "o/m-GGUF", "m-Q8_0.gguf").as_deref(), Some(&content[..]));

    let blobs = cache(&server.perch).join("models--o--n-GGUF/blobs");
    assert_eq!(delete(&server, &format!("/local/download/{other}")), 204);
    assert_eq!(fs::read_dir(blobs).map_or(0, Iterator::count), 0, "its parts are deleted");
    assert_eq!(delete(&server, "/local/download/none"), 404);
}

#[test]
fn progress_comes_as_events() {
    let hub = LocalHub::new();
    hub.put_files("o/m-GGUF", &[("m-Q8_0.gguf", &noise(2 << 20, 8))]);
    hub.faults().rate = Some(2 << 20);
    let server = home(&hub).serve([""; 0]);
    let api = server.api();
    assert_eq!(api.post("/local/download", &json!({"model": "o/m-GGUF"})).status, 202);
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let answer = agent.get(format!("{}/local/download/status", server.url)).call().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(answer.into_body().into_reader()));
    let events =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("data: ").map(str::to_string));
    let states = events.map(|data| serde_json::from_str::<Value>(&data).unwrap()["downloads"][0].clone());
    let mut arrived = Vec::new();
    for state in states {
        arrived.push(state["done_bytes"].as_u64().unwrap());
        if state["state"] == "completed" {
            break;
        }
    }
    assert!(arrived.len() >= 4 && arrived.is_sorted(), "{arrived:?}");
    assert_eq!(arrived.last(), Some(&(2 << 20)));
}

#[test]
fn hugging_faces_own_library_finds_what_was_downloaded() {
    let python = match client_libraries("TESTS_PYTHON") {
        Ok(python) => python,
        Err(reason) => skip!("{reason}"),
    };
    let (hub, content) = (LocalHub::new(), noise(1 << 20, 12));
    hub.put_files(
        "o/m",
        &[("model.safetensors", &content), ("config.json", b"{}"), ("tokenizer.json", b"{}")],
    );
    let perch = home(&hub);
    assert_eq!(pull(&perch, &["o/m"]).0, Some(0));
    let code = "import hashlib, sys, huggingface_hub as h; d = h.snapshot_download('o/m', local_files_only=True); \
                print(hashlib.sha256(open(d + '/model.safetensors', 'rb').read()).hexdigest()); \
                print(h.try_to_load_from_cache('o/m', 'config.json') is not None); \
                print([r.repo_id for r in h.scan_cache_dir().repos], len(h.scan_cache_dir().warnings))";
    let output = Command::new(python)
        .args(["-c", code])
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", perch.home().join(".cache/huggingface"))
        .output()
        .expect("python runs");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        stdout,
        format!("{}\nTrue\n['o/m'] 0\n", oid(&content)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
