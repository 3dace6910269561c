//! What the hub offers, as the server and the command line tell it.

use perch_tests::{Api, HubRepo, LocalHub, Perch, Server};
use serde_json::{Value, json};

fn repo(facts: Value, files: &[(&str, usize)]) -> HubRepo {
    let files = files.iter().map(|(name, size)| ((*name).to_string(), vec![b'{'; *size].into()));
    HubRepo { facts, files: files.collect(), ..HubRepo::default() }
}

/// A hub with a model, who carries GGUF of it, and one that does not run.
fn hub() -> LocalHub {
    let hub = LocalHub::new();
    let base = json!({"downloads": 900, "likes": 9, "tags": ["safetensors"], "cardData": {"license": "apache-2.0"},
        "safetensors": {"parameters": {"BF16": 596_049_920_u64}, "total": 596_049_920_u64},
        "config": {"architectures": ["Qwen3ForCausalLM"]}, "lastModified": "2026-01-31T12:00:00.000Z"});
    let config = json!({"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "hidden_size": 1024, "max_position_embeddings": 40_960});
    let mut model = repo(base, &[("model.safetensors", 9_000), ("tokenizer.json", 10)]);
    model.files.insert("config.json".into(), config.to_string().into());
    model.files.insert("README.md".into(), "---\nlicense: apache-2.0\n---\n# Qwen3\nA model.".into());
    hub.put("Qwen/Qwen3-0.6B", model);
    let gguf = |downloads: u64, tags: &[&str]| {
        json!({"downloads": downloads, "tags": tags, "lastModified": "2026-01-31T12:00:00.000Z",
            "gguf": {"total": 596_049_920_u64, "architecture": "qwen3", "context_length": 40_960, "chat_template": "{{ x }}"}})
    };
    let related = ["gguf", "base_model:quantized:Qwen/Qwen3-0.6B"];
    let files = [("q-Q4_K_M.gguf", 4_000_usize), ("q-Q8_0.gguf", 8_000), ("q-IQ2_M.gguf", 2_000)];
    hub.put("unsloth/Qwen3-0.6B-GGUF", repo(gguf(500, &related), &files));
    hub.put("stranger/Qwen3-0.6B-GGUF", repo(gguf(500, &related), &files));
    hub.put("Qwen/Qwen3-0.6B-GGUF", repo(gguf(400, &["gguf"]), &files[1..2]));
    let other =
        json!({"downloads": 100, "tags": ["safetensors"], "config": {"architectures": ["MambaForCausalLM"]}});
    hub.put("state/mamba", repo(other, &[("config.json", 2)]));
    hub
}

fn serve(hub: &LocalHub) -> Server {
    Perch::new().with_env("HF_ENDPOINT", &hub.url).with_env("NO_PROXY", "127.0.0.1").serve([""; 0])
}

fn ids(list: &Value, key: &str) -> Vec<String> {
    let id =
        |model: &Value| model["id"].as_str().or_else(|| model["model"]["id"].as_str()).unwrap().to_string();
    list[key].as_array().unwrap_or_else(|| panic!("{list:#}")).iter().map(id).collect()
}

#[test]
fn search_goes_page_by_page_and_says_what_runs() {
    let (hub, pages) = (hub(), |api: &Api| {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = api.get(&format!("/hub/search?sort=downloads&limit=2{cursor}"));
            assert_eq!(page.status, 200, "{}", page.text);
            let page = page.json();
            found.extend(page["models"].as_array().unwrap().clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", next.replace('=', "%3D")),
                None => return found,
            }
        }
    });
    let server = serve(&hub);
    let api = server.api();
    let all = pages(&api);
    assert_eq!(all.len(), 5);
    assert_eq!(all[0]["id"], "Qwen/Qwen3-0.6B");
    assert_eq!(all[0]["support"]["family"], "Qwen3");
    assert_eq!(all[0]["size_bytes"], 2 * 596_049_920_u64);
    assert_eq!(all[0]["license"], "apache-2.0");
    let mamba = all.iter().find(|model| model["id"] == "state/mamba").unwrap();
    assert_eq!(mamba["support"]["supported"], false);
    assert!(mamba["support"]["reason"].as_str().unwrap().contains("MambaForCausalLM"));

    let gguf = api.get("/hub/search?query=qwen3&format=gguf").json();
    assert_eq!(ids(&gguf, "models").len(), 3);
    assert_eq!(ids(&api.get("/hub/search?author=state").json(), "models"), ["state/mamba"]);
    for bad in ["limit=0", "limit=1000", "format=zip", "sort=best", "colour=red"] {
        let answer = api.get(&format!("/hub/search?{bad}"));
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (400, "invalid_value"),
            "{bad}: {}",
            answer.text
        );
    }
}

#[test]
fn a_model_is_described_with_card_files_and_the_memory_it_needs() {
    let hub = hub();
    let server = serve(&hub);
    let details = server.api().get("/hub/model/Qwen/Qwen3-0.6B").json();
    assert_eq!(details["card"], "# Qwen3\nA model.");
    assert_eq!(details["context_length"], 40_960);
    assert_eq!(details["variants"][0]["memory"]["kv_bytes"], 8_192_u64 * 28 * 8 * 128 * 2 * 2);
    assert_eq!(details["variants"][0]["id"], "Qwen/Qwen3-0.6B");
    let files: Vec<&str> =
        details["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(files, ["README.md", "config.json", "model.safetensors", "tokenizer.json"]);
    let gguf = server.api().get("/hub/model/unsloth/Qwen3-0.6B-GGUF").json();
    let best =
        gguf["variants"].as_array().unwrap().iter().find(|variant| variant["recommended"] == true).unwrap();
    assert_eq!(best["id"], "unsloth/Qwen3-0.6B-GGUF:Q4_K_M");
    assert_eq!(
        (&gguf["chat_template"], &gguf["model"]["support"]["supported"]),
        (&json!(true), &json!(true))
    );
    let absent = server.api().get("/hub/model/no/body");
    assert_eq!((absent.status, absent.error_code().as_str()), (404, "model_not_found"));
}

#[test]
fn who_carries_gguf_is_ranked_and_the_score_adds_up() {
    let hub = hub();
    let server = serve(&hub);
    let list = server.api().get("/hub/model/Qwen/Qwen3-0.6B/gguf-providers").json();
    let ranked = ids(&list, "providers");
    assert_eq!(ranked.len(), 3);
    assert_eq!(ranked[2], "stranger/Qwen3-0.6B-GGUF");
    for provider in list["providers"].as_array().unwrap() {
        let parts = provider["parts"].as_object().unwrap().values();
        let sum: f64 = parts.map(|p| p["value"].as_f64().unwrap() * p["weight"].as_f64().unwrap()).sum();
        assert!((sum - provider["score"].as_f64().unwrap()).abs() < 1e-9, "{provider:#}");
    }
    assert!(list["providers"][0]["parts"]["trust"]["value"].as_f64() > Some(0.8));
}

#[test]
fn popular_models_are_listed_offline_too() {
    let offline = Perch::new().with_env("HF_HUB_OFFLINE", "1").serve([""; 0]);
    let list = offline.api().get("/hub/popular").json();
    assert_eq!(list["online"], false);
    let models = list["models"].as_array().unwrap();
    assert!(models.len() >= 8 && models.is_sorted_by_key(|model| model["size_bytes"].as_u64()));
    let refused = offline.api().get("/hub/search");
    assert_eq!((refused.status, refused.error_code().as_str()), (409, "hub_offline"));
}

#[test]
fn the_command_line_shows_a_table() {
    let hub = hub();
    let perch = Perch::new().with_env("HF_ENDPOINT", &hub.url).with_env("NO_PROXY", "127.0.0.1");
    let (code, stdout, stderr) = perch.run(["search", "qwen3"]);
    assert_eq!(code, Some(0), "{stderr}");
    let first = stdout.lines().nth(1).unwrap_or_default();
    assert!(
        stdout.starts_with("MODEL") && first.starts_with("Qwen/Qwen3-0.6B") && first.contains("1.2 GB"),
        "{stdout}"
    );
    let (_, stdout, _) = perch.run(["search", "mamba"]);
    assert!(stdout.contains("MambaForCausalLM does not run yet"), "{stdout}");
    let (_, stdout, _) = perch.run(["search", "--json", "mamba"]);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["models"][0]["id"], "state/mamba");
}
