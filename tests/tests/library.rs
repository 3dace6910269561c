//! The library's commands on real models: listing, describing, importing, deleting, rounding.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use perch_tests::{Perch, RandomModel, client_libraries, skip, stories};
use serde_json::Value;

fn ok<const N: usize>(perch: &Perch, args: [&str; N]) -> String {
    let (code, stdout, stderr) = perch.run(args);
    assert_eq!(code, Some(0), "{args:?}: {stdout}{stderr}");
    stdout
}

#[test]
fn show_tells_what_a_model_is_and_what_it_takes() {
    let perch = RandomModel("tiny:q4_k_m").home("m");
    let shown = ok(&perch, ["show", "m"]);
    for word in ["qwen3", "template", "TENSORS", "KV CACHE", "general.name"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let json: Value = serde_json::from_str(&ok(&perch, ["show", "m", "--json"])).unwrap();
    assert_eq!((&json["context_length"], &json["chat_template"]), (&4096.into(), &true.into()));
}

#[test]
fn a_model_is_imported_by_link_and_deleted_without_its_bytes() {
    let (perch, other) = (Perch::new(), Perch::new());
    let file = other.models_dir().join("guest-F32.gguf");
    RandomModel::TINY.write(&file);
    let path = file.to_str().unwrap();
    assert!(ok(&perch, ["import", path, "--dry-run"]).contains("would import"));
    assert!(ok(&perch, ["import", path, "--profile", "balanced"]).contains("imported guest-F32"));
    assert!(ok(&perch, ["list"]).contains("guest-F32"));
    let settings = fs::read_to_string(perch.data_dir().join("models.toml")).unwrap();
    assert!(settings.contains("quantize = \"q8_0\""), "{settings}");

    let (code, _, stderr) = perch.run(["rm", "guest-F32"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--yes"), "{stderr}");
    ok(&perch, ["rm", "guest-F32", "--yes"]);
    assert!(!ok(&perch, ["list"]).contains("guest-F32") && file.is_file());
}

#[test]
fn settings_for_a_folder_of_models_can_be_written_to_a_file() {
    let (perch, other) = (Perch::new(), Perch::new());
    for name in ["a", "b"] {
        RandomModel::TINY.write(&other.models_dir().join(format!("{name}.gguf")));
    }
    let output = perch.data_dir().join("models.toml");
    let (folder, file) = (other.models_dir(), output.display().to_string());
    ok(&perch, ["import", "--folder", folder.to_str().unwrap(), "--output", &file, "--profile", "fast"]);
    let written = fs::read_to_string(&output).unwrap();
    assert_eq!(written.matches("[[models]]").count(), 2, "{written}");
    // What was written is what the server reads.
    let server = perch.serve([""; 0]);
    let ids = server.api().model_ids();
    assert!(ids.contains(&"a".to_owned()) && ids.contains(&"b".to_owned()), "{ids:?}");
}

#[test]
fn du_and_prune_say_what_there_is() {
    let perch = RandomModel::TINY.home("m");
    assert!(ok(&perch, ["du"]).contains("FREED BY RM"));
    let stats: Value = serde_json::from_str(&ok(&perch, ["du", "--json"])).unwrap();
    assert!(stats["total_bytes"].as_u64() > Some(10_000), "{stats}");
    let pruned: Value = serde_json::from_str(&ok(&perch, ["prune", "--json"])).unwrap();
    assert_eq!(pruned["dry_run"], true);
}

/// The answer of a model to a fixed prompt, always the likeliest token.
fn answer(perch: &Perch, model: &str) -> String {
    ok(perch, ["run", model, "Once upon a time", "--temperature", "0", "--max-tokens", "24"])
}

#[test]
fn a_rounded_gguf_file_runs_with_its_tokenizer_and_template() {
    let perch = RandomModel("tiny:bf16").home("m");
    let out = perch.models_dir().join("m-q8.gguf");
    ok(&perch, ["quantize", "m", out.to_str().unwrap(), "--type", "q8_0"]);
    assert!(
        fs::metadata(&out).unwrap().len() < fs::metadata(perch.models_dir().join("m.gguf")).unwrap().len()
    );
    let shown: Value = serde_json::from_str(&ok(&perch, ["show", "m-q8", "--json"])).unwrap();
    assert_eq!((&shown["tensors"][0]["type"], &shown["chat_template"]), (&"Q8_0".into(), &true.into()));
    assert!(!answer(&perch, "m-q8").is_empty());

    let (code, _, stderr) = perch.run(["quantize", "m-q8", "again.gguf", "--type", "q4_k"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("nothing to round"), "{stderr}");
    let (_, _, stderr) = perch.run(["quantize", "m", out.to_str().unwrap(), "--type", "q8_0"]);
    assert!(stderr.contains("--force"), "{stderr}");
}

#[test]
fn a_rounded_folder_says_what_the_folder_says() {
    let stories = match stories() {
        Ok(folder) => folder,
        Err(reason) => skip!("{reason}"),
    };
    let perch = Perch::new();
    let out = perch.models_dir().join("stories-q8.gguf");
    ok(&perch, ["quantize", stories.to_str().unwrap(), out.to_str().unwrap(), "--type", "q8_0"]);
    let start = |model: &str| answer(&perch, model).chars().take(20).collect::<String>();
    assert_eq!(start(out.to_str().unwrap()), start(stories.to_str().unwrap()));
}

#[test]
fn five_hundred_models_are_listed_within_a_second() {
    let perch = Perch::new();
    let first = perch.models_dir().join("m0/m0.gguf");
    fs::create_dir_all(first.parent().unwrap()).unwrap();
    RandomModel::TINY.write(&first);
    for number in 1..500 {
        let folder = perch.models_dir().join(format!("m{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::copy(&first, folder.join(format!("m{number}.gguf"))).unwrap();
    }
    let timed = || {
        let begun = Instant::now();
        let models: Value = serde_json::from_str(&ok(&perch, ["list", "--json"])).unwrap();
        assert_eq!(models.as_array().unwrap().len(), 500);
        begun.elapsed()
    };
    let (cold, warm) = (timed(), timed());
    println!("500 models: {cold:?} the first time, {warm:?} from then on");
    assert!(warm < Duration::from_secs(1), "{warm:?}");
}

/// What `huggingface_hub` itself says about a cache: its size and how many warnings.
fn scanned(python: &Path, hub: &Path) -> (u64, u64) {
    let script = "import sys, json; from huggingface_hub import scan_cache_dir; \
                  info = scan_cache_dir(sys.argv[1]); print(json.dumps([info.size_on_disk, len(info.warnings)]))";
    let output = Command::new(python).args(["-c", script]).arg(hub).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).unwrap()
}

/// Lays a revision out as `huggingface_hub` does.
fn cache(hub: &Path, repo: &str, revision: &str, files: &[(&str, &Path)]) {
    let root = hub.join(format!("models--{}", repo.replace('/', "--")));
    fs::create_dir_all(root.join("blobs")).unwrap();
    fs::create_dir_all(root.join("refs")).unwrap();
    fs::create_dir_all(root.join("snapshots").join(revision)).unwrap();
    for (name, content) in files {
        let blob = content.file_name().unwrap();
        fs::copy(content, root.join("blobs").join(blob)).unwrap();
        let link = root.join("snapshots").join(revision).join(name);
        std::os::unix::fs::symlink(Path::new("../../blobs").join(blob), link).unwrap();
    }
    fs::write(root.join("refs/main"), revision).unwrap();
}

#[test]
fn hugging_faces_own_library_agrees_on_sizes_and_finds_nothing_amiss_after_a_deletion() {
    let python = match client_libraries("TESTS_PYTHON") {
        Ok(python) => python,
        Err(reason) => skip!("{reason}"),
    };
    let there = Command::new(&python).args(["-c", "import huggingface_hub"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        skip!("that Python has no huggingface_hub");
    }
    let (perch, blobs) = (Perch::new(), Perch::new());
    let blob = |name: &str, kind| {
        let path = blobs.data_dir().join(format!("{name}.gguf"));
        RandomModel(kind).write(&path);
        path
    };
    let (small, large, old) = (blob("aa", "tiny:q4_0"), blob("bb", "tiny:q8_0"), blob("cc", "tiny:f16"));
    let hub = perch.data_dir().join("hf/hub");
    cache(&hub, "o/n-GGUF", "1111", &[("n-Q4_0.gguf", &small), ("n-F16.gguf", &old)]);
    cache(&hub, "o/n-GGUF", "2222", &[("n-Q4_0.gguf", &small), ("n-Q8_0.gguf", &large)]);
    cache(&hub, "o/other", "3333", &[("other-Q8_0.gguf", &large)]);
    let home = perch.data_dir().join("hf");
    let run = |args: &[&str]| {
        let output = perch.command(args).env("HF_HOME", &home).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).to_string()
    };
    let size = || {
        let stats: Value = serde_json::from_str(&run(&["du", "--json"])).unwrap();
        let cache = stats["stores"].as_array().unwrap().iter().find(|store| store["store"] == "hugging_face");
        cache.map_or(0, |cache| cache["bytes"].as_u64().unwrap())
    };
    for step in [
        &[][..],
        &["rm", "o/n-GGUF:Q8_0", "--yes"],
        &["rm", "o/n-GGUF:Q4_0", "--yes"],
        &["rm", "o/other:Q8_0", "--yes"],
    ] {
        if !step.is_empty() {
            run(step);
        }
        assert_eq!(scanned(&python, &hub), (size(), 0), "after {step:?}");
    }
    // The older revision is what is left.
    assert!(run(&["list"]).contains("o/n-GGUF:F16"));
}

/// A folder with a small Qwen2 of made-up weights: matrices, biases and a byte-level tokenizer.
fn write_qwen2(folder: &Path) {
    let (hidden, inner, vocab) = (64, 96, 300);
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for (part, shape) in [
        ("input_layernorm.weight", vec![hidden]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("self_attn.q_proj.weight", vec![hidden, hidden]),
        ("self_attn.q_proj.bias", vec![hidden]),
        ("self_attn.k_proj.weight", vec![32, hidden]),
        ("self_attn.k_proj.bias", vec![32]),
        ("self_attn.v_proj.weight", vec![32, hidden]),
        ("self_attn.v_proj.bias", vec![32]),
        ("self_attn.o_proj.weight", vec![hidden, hidden]),
        ("mlp.gate_proj.weight", vec![inner, hidden]),
        ("mlp.up_proj.weight", vec![inner, hidden]),
        ("mlp.down_proj.weight", vec![hidden, inner]),
    ] {
        tensors.push((format!("model.layers.0.{part}"), shape));
    }
    let (mut header, mut data, mut state) = (serde_json::Map::new(), Vec::new(), 1u32);
    for (name, shape) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = if name.contains("norm") { 1.0 } else { (state >> 8) as f32 / 8_388_608.0 - 1.0 };
            data.extend_from_slice(&value.to_le_bytes());
        }
        let entry = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = Value::from(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&data);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
    let config = serde_json::json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocab,
        "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": true, "use_sliding_window": false, "sliding_window": 512
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();

    // GPT-2's spelling of bytes, and two merges.
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let spelled = |byte: u8| match printable(byte) {
        true => char::from(byte),
        false => char::from_u32(0x100 + (0..byte).filter(|other| !printable(*other)).count() as u32).unwrap(),
    };
    let bytes = (0..=255u8).map(|byte| spelled(byte).to_string()).chain(["th", "the"].map(str::to_owned));
    let vocab: serde_json::Map<String, Value> =
        bytes.enumerate().map(|(id, text)| (text, id.into())).collect();
    let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 258, "content": "<|im_end|>", "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false}],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        "model": {"type": "BPE", "vocab": vocab, "merges": ["t h", "th e"]}
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = serde_json::json!({"eos_token": "<|im_end|>", "chat_template": "{{ messages[0].content }}"});
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

#[test]
fn a_folder_with_biases_and_a_byte_level_tokenizer_becomes_gguf() {
    let perch = Perch::new();
    let (folder, out) = (perch.models_dir().join("q2"), perch.models_dir().join("q2-q8/q2-q8.gguf"));
    write_qwen2(&folder);
    fs::create_dir_all(out.parent().unwrap()).unwrap();
    ok(&perch, ["quantize", "q2", out.to_str().unwrap(), "--type", "q8_0"]);
    let shown: Value = serde_json::from_str(&ok(&perch, ["show", "q2-q8", "--json"])).unwrap();
    let metadata = &shown["metadata"];
    assert_eq!(
        (&metadata["tokenizer.ggml.pre"], &metadata["tokenizer.ggml.model"]),
        (&"qwen2".into(), &"gpt2".into())
    );
    assert_eq!((&shown["architecture"], &shown["chat_template"]), (&"qwen2".into(), &true.into()));
    let first = |model: &str| answer(&perch, model).chars().take(2).collect::<String>();
    assert_eq!(first("q2-q8"), first("q2"));

    fs::write(folder.join("config.json"), r#"{"architectures": ["GPT2LMHeadModel"]}"#).unwrap();
    let (code, _, stderr) = perch.run(["quantize", "q2", "x.gguf", "--type", "q8_0"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("Qwen2ForCausalLM"), "{stderr}");
}
