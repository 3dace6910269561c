//! Damaged and hostile model files: each is answered with an error that says what is wrong, within a second, without
//! memory that the file talked the server into, and the server goes on.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use perch_tests::{Perch, RandomModel};

/// The most memory that a bad file may cost.
const MEMORY: u64 = 64 << 20;

fn little(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

/// A GGUF header with these counts, and what follows it.
fn gguf(version: u32, tensors: u64, keys: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(little(tensors));
    bytes.extend(little(keys));
    rest.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// A string as GGUF writes it, with any length.
fn string(len: u64, text: &str) -> Vec<u8> {
    [&little(len), text.as_bytes()].concat()
}

fn safetensors(header_len: u64, header: &str) -> Vec<u8> {
    [&little(header_len), header.as_bytes()].concat()
}

/// Names and bytes of GGUF files, none of them good.
fn gguf_files(good: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let name = string(1, "a");
    let array_of =
        |kind: u32, len: u64| [&9u32.to_le_bytes()[..], &kind.to_le_bytes(), &little(len)].concat();
    let mut nested = name.clone();
    nested.extend(9u32.to_le_bytes());
    for _ in 0..10_000 {
        nested.extend([&9u32.to_le_bytes()[..], &little(1)].concat());
    }
    let tensor = |dims: u32, size: u64, kind: u32, offset: u64| {
        let mut bytes = [&name[..], &dims.to_le_bytes()].concat();
        (0..dims.min(8)).for_each(|_| bytes.extend(little(size)));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(little(offset));
        bytes
    };
    let mut flipped = good.to_vec();
    flipped.iter_mut().skip(24).step_by(97).take(400).for_each(|byte| *byte ^= 0xff);
    vec![
        ("empty", Vec::new()),
        ("not-a-model", b"<!DOCTYPE html><html>404".repeat(100)),
        ("git-lfs-pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec()),
        ("version-nought", gguf(0, 0, 0, &[])),
        ("endless-tensors", gguf(3, u64::MAX, 0, &[])),
        ("endless-keys", gguf(3, 0, u64::MAX, &[])),
        ("endless-key-name", gguf(3, 0, 1, &[&string(u64::MAX, "a")])),
        ("endless-array", gguf(3, 0, 1, &[&name, &array_of(4, u64::MAX / 4)])),
        ("endless-strings", gguf(3, 0, 1, &[&name, &array_of(8, 1 << 60)])),
        ("nested-arrays", gguf(3, 0, 1, &[&nested])),
        ("no-architecture", gguf(3, 0, 0, &[])),
        ("many-dimensions", gguf(3, 1, 0, &[&tensor(u32::MAX, 1, 0, 0)])),
        ("overflowing-size", gguf(3, 1, 0, &[&tensor(4, 1 << 62, 0, 0)])),
        ("offset-outside", gguf(3, 1, 0, &[&tensor(1, 32, 0, u64::MAX - 31)])),
        ("unknown-type", gguf(3, 1, 0, &[&tensor(1, 32, 999, 0)])),
        ("header-cut-off", good[..good.len().min(300)].to_vec()),
        ("data-cut-off", good[..good.len() - 1000].to_vec()),
        ("bits-flipped", flipped),
    ]
}

fn write_safetensors(models: &Path) -> Vec<&'static str> {
    let config = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":64,
        "intermediate_size":128,"num_hidden_layers":1,"num_attention_heads":4,"vocab_size":32}"#;
    let huge_config = config.replace("\"num_hidden_layers\":1", "\"num_hidden_layers\":4294967295");
    let span = |start: u64, end: u64| {
        format!(
            r#"{{"model.embed_tokens.weight":{{"dtype":"F32","shape":[32,64],"data_offsets":[{start},{end}]}}}}"#
        )
    };
    let with_header = |header: &str| safetensors(header.len() as u64, header);
    let deep = "[".repeat(200_000);
    let cases: [(&str, &str, Vec<u8>); 8] = [
        ("st-endless-header", config, safetensors(u64::MAX, "{}")),
        ("st-header-outside", config, safetensors(1 << 20, "{}")),
        ("st-header-not-json", config, with_header("nonsense")),
        ("st-header-too-deep", config, with_header(&deep)),
        ("st-data-outside", config, with_header(&span(0, 1 << 40))),
        ("st-data-backwards", config, with_header(&span(8192, 0))),
        ("st-no-tensors", config, with_header("{}")),
        ("st-endless-layers", &huge_config, with_header("{}")),
    ];
    let mut names = Vec::new();
    for (name, config, bytes) in cases {
        let folder = models.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), config).unwrap();
        fs::write(folder.join("model.safetensors"), bytes).unwrap();
        names.push(name);
    }
    names
}

#[test]
fn every_bad_file_is_answered_with_what_is_wrong_within_a_second_and_the_server_goes_on() {
    let perch: Perch = RandomModel::TINY.home("good");
    let models = perch.models_dir();
    let good = fs::read(models.join("good.gguf")).unwrap();
    let mut names = write_safetensors(&models);
    for (name, bytes) in gguf_files(&good) {
        fs::write(models.join(format!("{name}.gguf")), bytes).unwrap();
        names.push(name);
    }
    let server = perch.serve([""; 0]);
    let api = server.api();
    assert_eq!(api.chat("good", "Hello", 2).status, 200);
    let before = server.proc_status("VmHWM");

    for name in names {
        let start = Instant::now();
        let answer = api.chat(name, "Hello", 2);
        let took = start.elapsed();
        assert_eq!(
            (answer.status, answer.error_code().as_str()),
            (422, "invalid_model_file"),
            "{name}: {answer:?}"
        );
        let message = answer.json()["error"]["message"].as_str().unwrap().to_string();
        assert!(message.len() > 10 && message.len() < 2000, "{name}: {message}");
        assert!(took < Duration::from_secs(1), "{name} took {took:?}");
    }
    if let (Some(before), Some(after)) = (before, server.proc_status("VmHWM")) {
        assert!(after - before < MEMORY, "the bad files cost {} MB", (after - before) >> 20);
    }
    assert_eq!(api.chat("good", "Hello", 2).status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
