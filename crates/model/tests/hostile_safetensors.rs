//! Safetensors folders that are wrong, one wrong at a time: each gets an error that says what is wrong.

mod common;

use common::{Folder, llama_config, llama_safetensors, reason, safetensors, with_header};
use perch_model::{Checkpoint, ModelError, SpecOptions};
use serde_json::json;

fn open(file: &[u8]) -> Result<Checkpoint, ModelError> {
    let folder = Folder::new();
    folder.write("config.json", "{}");
    folder.open("model.safetensors", file)
}

#[track_caller]
fn fails(file: &[u8], expected: &str) {
    let reason = reason(open(file));
    assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
}

/// A header with one tensor, and eight bytes of data.
#[track_caller]
fn entry_fails(entry: &str, expected: &str) {
    fails(&with_header(&format!("{{\"a\":{entry}}}"), &[0; 8]), expected);
}

#[test]
fn a_header_length_beyond_the_file_or_the_limit_is_refused() {
    fails(b"", "empty");
    fails(&[0; 7], "shorter than 8 bytes");
    fails(&u64::MAX.to_le_bytes(), "claims a header of 18446744073709551615 bytes");
    fails(&100u64.to_le_bytes(), "claims a header of 100 bytes, 0 bytes follow");
    fails(b"version https://git-lfs.github.com/spec/v1\n", "is not a safetensors file");
    let long = with_header(&" ".repeat((16 << 20) + 1), &[]);
    fails(&long, "16777216 are the limit");
}

#[test]
fn a_header_that_is_no_table_of_tensors_is_refused() {
    for header in ["", "[]", "{", "{\"a\":1}", "{\"a\":{}}", "nonsense", "{\"__metadata__\":", "\"\u{0}\""] {
        fails(&with_header(header, &[]), "the header is wrong");
    }
    fails(&with_header(&"[".repeat(1 << 20), &[]), "the header is wrong");
    let deep = format!("{{\"__metadata__\":{}", "[".repeat(1 << 20));
    fails(&with_header(&deep, &[]), "the header is wrong");
    fails(&with_header("{\"a\":\u{0}}", &[]), "the header is wrong");
}

#[test]
fn a_tensor_whose_type_shape_and_place_disagree_is_refused() {
    entry_fails(r#"{"dtype":"F32","shape":[2],"data_offsets":[0,4]}"#, "cannot lie at 0..4");
    entry_fails(r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#, "cannot lie at 4..0");
    entry_fails(r#"{"dtype":"F32","shape":[3],"data_offsets":[0,12]}"#, "incomplete, download it again");
    entry_fails(r#"{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#, "incomplete");
    entry_fails(r#"{"dtype":"X9","shape":[1],"data_offsets":[0,4]}"#, "unknown type \"X9\"");
    entry_fails(r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#, "the header is wrong");
    entry_fails(r#"{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}"#, "the header is wrong");
    entry_fails(
        r#"{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}"#,
        "more than 8 dimensions",
    );
    let overflow = r#"{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,0]}"#;
    entry_fails(overflow, "cannot lie at 0..0");
    // A product of zero that overflows on the way.
    let zero =
        r#"{"dtype":"F32","shape":[18446744073709551615,18446744073709551615,0],"data_offsets":[0,0]}"#;
    entry_fails(zero, "cannot lie");
    let far = r#"{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,0]}"#;
    entry_fails(far, "cannot lie");
}

#[test]
fn tensors_that_share_bytes_or_a_name_are_refused() {
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let both = |other: &str| format!("{{\"a\":{one},{other}}}");
    fails(&with_header(&both(&format!("\"b\":{one}")), &[0; 8]), "overlap");
    let second = r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#;
    fails(&with_header(&both(&format!("\"a\":{second}")), &[0; 8]), "\"a\" occurs twice");
    fails(&with_header(&both(&format!("\"\":{second}")), &[0; 8]), "name has 0 bytes");
    fails(&with_header(&both(&format!("\"{}\":{second}", "x".repeat(256))), &[0; 8]), "name has 256 bytes");
}

#[test]
fn an_index_cannot_lead_out_of_its_folder() {
    for name in ["../secret.safetensors", "/etc/secret.safetensors", "sub/a.safetensors", "a.bin", ""] {
        let folder = Folder::new();
        folder.write("config.json", "{}");
        let index = json!({"weight_map": {"a": name}});
        folder.write("model.safetensors.index.json", index.to_string());
        let reason = reason(Checkpoint::open(folder.path()));
        assert!(reason.contains("not the name of a safetensors file in this folder"), "{reason}");
    }
}

#[test]
fn an_index_that_is_wrong_or_names_what_is_not_there_is_refused() {
    let cases = [
        ("{}", "weight_map"),
        ("[", "the index is wrong"),
        (r#"{"weight_map":{}}"#, "names no shard"),
        (r#"{"weight_map":{"a":1}}"#, "the index is wrong"),
        (r#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#, "which is missing: download it too"),
    ];
    for (index, expected) in cases {
        let folder = Folder::new();
        folder.write("config.json", "{}");
        folder.write("model.safetensors.index.json", index);
        let reason = reason(Checkpoint::open(folder.path()));
        assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let folder = Folder::new();
    folder.write("config.json", "{}");
    let shard = safetensors(&[("a", "U8", vec![1], vec![0])]);
    folder.write("model-1.safetensors", &shard);
    folder.write("model-2.safetensors", &shard);
    assert!(reason(Checkpoint::open(folder.path())).contains("in another file of the model"));
}

#[test]
fn a_missing_or_broken_config_is_named() {
    let folder = Folder::new();
    folder.write("model.safetensors", llama_safetensors());
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("config.json") && error.contains("missing"), "{error}");
    for (config, expected) in [("{", "not valid JSON"), ("[]", "not a JSON object"), ("", "empty")] {
        folder.write("config.json", config);
        let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(expected), "{error}");
    }
}

#[test]
fn packed_parts_that_do_not_fit_together_are_refused() {
    let words = |cols: usize| ("a.weight", "U32", vec![2, cols], vec![0; 8 * cols]);
    let scales = |groups: usize| ("a.scales", "F16", vec![2, groups], vec![0; 4 * groups]);
    let biases = |groups: usize| ("a.biases", "F16", vec![2, groups], vec![0; 4 * groups]);
    let scheme = json!({"quantization": {"bits": 4, "group_size": 32}});
    let cases = [
        (json!({}), vec![words(8), scales(2)], "config.json has no quantization"),
        (scheme.clone(), vec![words(8), scales(3), biases(3)], "does not have 4 bits in groups of 32"),
        (scheme.clone(), vec![words(8), scales(2)], "has no biases"),
        (scheme.clone(), vec![words(8), scales(2), biases(1)], "do not fit together"),
        (
            json!({"quantization": {"group_size": 32}}),
            vec![words(8), scales(2), biases(2)],
            "no bits or group_size",
        ),
        (
            json!({"quantization": {"bits": u64::MAX, "group_size": u64::MAX}}),
            vec![words(8), scales(2), biases(2)],
            "does not have",
        ),
        (
            scheme,
            vec![("b_blocks", "U8", vec![2, 3, 16], vec![0; 96]), ("b_scales", "U8", vec![2, 2], vec![0; 4])],
            "do not fit together",
        ),
    ];
    for (config, tensors, expected) in cases {
        let folder = Folder::new();
        folder.write("config.json", config.to_string());
        let reason = reason(folder.open("model.safetensors", safetensors(&tensors)));
        assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
    }
}

#[test]
fn other_methods_of_quantisation_are_named_with_what_to_do() {
    let folder = Folder::new();
    let mut config = llama_config();
    config["quantization_config"] = json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
    folder.write("config.json", config.to_string());
    let model = folder.open("model.safetensors", llama_safetensors()).unwrap();
    let error = model.spec(&SpecOptions::default()).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported(_)), "{error}");
    assert!(error.to_string().contains("gptq") && error.to_string().contains("GGUF"), "{error}");
}

#[test]
fn every_truncation_of_a_model_is_an_error() {
    let whole = llama_safetensors();
    let folder = Folder::new();
    folder.write("config.json", llama_config().to_string());
    for len in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        reason(folder.open("model.safetensors", &whole[..len]));
    }
}

#[test]
fn folders_without_a_model_say_what_is_missing() {
    let folder = Folder::new();
    let error = |folder: &Folder| Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error(&folder).contains("no .safetensors and no .gguf"));
    folder.write("pytorch_model.bin", "x");
    assert!(error(&folder).contains("PyTorch"));
    folder.write("a.gguf", common::llama_gguf());
    folder.write("mmproj-a.gguf", "not looked at");
    folder.write("._a.gguf", "not looked at");
    Checkpoint::open(folder.path()).unwrap();
    folder.write("b.gguf", "x");
    assert!(error(&folder).contains("2 GGUF models"));
}
