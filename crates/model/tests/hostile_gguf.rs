//! GGUF files that are wrong, one wrong at a time: each gets an error that says what is wrong.

mod common;

use common::{Folder, gguf, llama_gguf, reason};
use perch_model::gguf::Writer;
use perch_model::{Checkpoint, DType, ModelError, SpecOptions};

/// A GGUF file written by hand, so that it can say anything.
#[derive(Clone)]
struct Raw(Vec<u8>);

impl Raw {
    fn header(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn str(self, text: &[u8]) -> Self {
        self.u64(text.len() as u64).bytes(text)
    }

    /// An entry of the tensor table; dimensions innermost first.
    fn tensor(self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let entry = self.str(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(entry, |raw, dim| raw.u64(*dim)).u32(kind).u64(offset)
    }

    fn data(mut self, len: usize) -> Self {
        let end = self.0.len().next_multiple_of(32) + len;
        self.0.resize(end, 0);
        self
    }

    #[track_caller]
    fn fails(self, expected: &str) {
        let reason = reason(Folder::new().open("model.gguf", &self.0));
        assert!(reason.contains(expected), "{reason:?} should contain {expected:?}");
    }
}

const U8: u32 = 0;
const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;
const Q8_0: u32 = 8;

#[test]
fn what_is_no_gguf_file_is_refused_by_its_first_bytes() {
    Raw(Vec::new()).fails("empty");
    Raw(b"GG".to_vec()).fails("magic number takes 4 bytes, but 2 are left");
    Raw(b"<html>".to_vec()).fails("begins with <htm");
    Raw(b"GGUF".to_vec()).fails("version");
    Raw(b"GGUF".to_vec()).u32(1).u64(0).u64(0).fails("version 1");
    Raw(b"GGUF".to_vec()).u32(4).u64(0).u64(0).fails("version 4");
    Raw(b"GGUF".to_vec()).u32(3u32.swap_bytes()).u64(0).u64(0).fails("big-endian");
    Raw(b"GGUF".to_vec()).u32(3).u64(0).fails("metadata count takes 8 bytes, but 0 are left");
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_made_of_them() {
    Raw::header(0, u64::MAX).fails("metadata keys, more than it can hold");
    Raw::header(0, 2).bytes(&[0; 25]).fails("2 metadata keys");
    Raw::header(u64::MAX, 0).fails("tensors, more than it can hold");
    Raw::header(1 << 40, 0).data(1 << 16).fails("tensors, more than it can hold");
}

#[test]
fn lengths_of_keys_and_strings_are_checked_against_what_is_left() {
    Raw::header(0, 1).u64(u64::MAX).bytes(&[0; 32]).fails("takes 18446744073709551615 bytes");
    Raw::header(0, 1).str(b"").u32(U8).bytes(&[0; 9]).fails("key has 0 bytes");
    Raw::header(0, 1).str(&[b'x'; 1025]).u32(U8).bytes(&[0]).fails("key has 1025 bytes");
    Raw::header(0, 1).str(b"k\xff").u32(U8).bytes(&[0; 9]).fails("key is not UTF-8 (at byte 24)");
    Raw::header(0, 1).str(b"k").u32(STRING).u64(1 << 62).fails("string value takes 4611686018427387904");
    Raw::header(0, 1).str(b"k").u32(STRING).str(b"\xc3").fails("string value is not UTF-8");
    Raw::header(0, 1).str(b"key").u32(U32).bytes(&[0; 2]).fails("value takes 4 bytes, but 2 are left");
}

#[test]
fn values_of_unknown_types_and_truths_that_are_neither_are_refused() {
    Raw::header(0, 1).str(b"k").u32(13).u64(0).fails("unknown value type 13");
    Raw::header(0, 1).str(b"k").u32(BOOL).bytes(&[2]).fails("neither true nor false");
    Raw::header(0, 2)
        .str(b"k")
        .u32(BOOL)
        .bytes(&[1])
        .str(b"k")
        .u32(BOOL)
        .bytes(&[0])
        .fails("\"k\" occurs twice");
}

#[test]
fn arrays_cannot_claim_more_than_the_file_has_nor_nest_without_end() {
    let array = || Raw::header(0, 1).str(b"k").u32(ARRAY);
    array().u32(STRING).u64(u64::MAX).fails("array of 18446744073709551615 values of type String");
    array().u32(U8).u64(1 << 20).bytes(&[0; 8]).fails("array of 1048576");
    array().u32(U8).u64(1 << 22).data(1 << 22).fails("more than it can hold");
    array().u32(77).u64(0).fails("unknown value type 77");
    array().u32(STRING).u64(2).str(b"a").u64(9).fails("string of an array takes 9 bytes");
    let nested = (0..100_000).fold(array(), |raw, _| raw.u32(ARRAY).u64(1));
    nested.fails("nests arrays too deeply");
    // As deep as is allowed, and so wide that visiting each would take for ever if they cost no bytes.
    let wide = array().u32(ARRAY).u64(1 << 20).data(64);
    wide.fails("array of 1048576 values of type Array");
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for alignment in [0, 3, 48, u32::MAX, 1 << 21] {
        Raw::header(0, 1).str(b"general.alignment").u32(U32).u32(alignment).fails("power of two");
    }
    Raw::header(0, 1).str(b"general.alignment").u32(STRING).str(b"32").fails("power of two");
}

#[test]
fn another_alignment_is_honoured() {
    let mut raw = Raw::header(1, 1).str(b"general.alignment").u32(U32).u32(256).tensor("a", &[1], F32, 0);
    raw.0.resize(256, 0);
    let raw = raw.bytes(&1.5f32.to_le_bytes());
    let model = Folder::new().open("a.gguf", raw.0).unwrap();
    assert_eq!(perch_model::TensorIndex::values(&model, "a").unwrap(), [1.5]);
}

#[test]
fn a_tensor_table_that_lies_is_refused() {
    let one = |name: &str, dims: &[u64], kind, offset| {
        Raw::header(1, 0).tensor(name, dims, kind, offset).data(1 << 12)
    };
    one("", &[1], F32, 0).fails("name has 0 bytes");
    one(&"x".repeat(256), &[1], F32, 0).fails("name has 256 bytes");
    one("a", &[], F32, 0).fails("0 dimensions");
    one("a", &[1, 1, 1, 1, 1], F32, 0).fails("5 dimensions");
    one("a", &[4, 0], F32, 0).fails("impossible dimension");
    one("a", &[1 << 32, 1 << 32], F32, 0).fails("cannot have shape");
    one("a", &[1 << 62], F32, 0).fails("cannot have shape");
    one("a", &[33], Q8_0, 0).fails("cannot have shape");
    one("a", &[1], 4, 0).fails("unknown type 4");
    one("a", &[1], 1000, 0).fails("unknown type 1000");
    one("a", &[1], F32, 4).fails("not a multiple of 32");
    one("a", &[1], F32, 1 << 20).fails("incomplete, download it again");
    one("a", &[1], F32, (u64::MAX >> 5) << 5).fails("incomplete");
    one("a", &[1025], F32, 0).fails("incomplete");
    let two = |name: &str, offset| {
        Raw::header(2, 0).tensor("a", &[16], F32, 0).tensor(name, &[1], F32, offset).data(1 << 12)
    };
    two("a", 64).fails("\"a\" occurs twice");
    two("b", 32).fails("overlap");
    two("b", 0).fails("overlap");
}

#[test]
fn every_truncation_of_a_model_is_an_error() {
    let whole = llama_gguf();
    let folder = Folder::new();
    for len in (0..whole.len()).step_by(97).chain([whole.len() - 32]) {
        reason(folder.open("model.gguf", &whole[..len]));
    }
}

#[test]
fn errors_name_the_file_and_cannot_be_made_to_spill_what_is_in_it() {
    let name = format!("{}\u{1b}[31m\n", "n".repeat(200));
    let raw = Raw::header(1, 0).tensor(&name, &[1], 1000, 0);
    let error = Folder::new().open("model.gguf", raw.0).unwrap_err().to_string();
    assert!(error.contains("model.gguf") && error.len() < 300, "{error}");
    assert!(!error.contains('\u{1b}') && !error.contains('\n'));
}

#[test]
fn a_type_that_no_backend_runs_is_named_once_the_model_is_to_run() {
    const IQ4_XS: u32 = 23;
    let raw = Raw::header(1, 0).tensor("a", &[256], IQ4_XS, 0).data(136);
    let model = Folder::new().open("model.gguf", raw.0).unwrap();
    assert_eq!(model.quantization(), "IQ4_XS");
    let error = model.load(&perch_model::Weight::new("a"), None).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported(_)) && error.to_string().contains("IQ4_XS"), "{error}");
}

#[test]
fn a_config_that_claims_more_than_the_tensors_hold_is_refused_at_once() {
    let huge = [
        ("llama.block_count", u32::MAX),
        ("llama.block_count", 1000),
        ("llama.embedding_length", u32::MAX),
        ("llama.feed_forward_length", 1 << 19),
        ("llama.attention.head_count", u32::MAX),
        ("llama.attention.head_count", 3),
        ("llama.attention.head_count_kv", 1 << 18),
        ("llama.attention.head_count_kv", 3),
        ("llama.context_length", u32::MAX),
        ("llama.rope.dimension_count", u32::MAX),
        ("llama.vocab_size", u32::MAX),
    ];
    let original = perch_model::gguf::Metadata::from_bytes("llama.gguf", &llama_gguf()).unwrap();
    for (key, value) in huge {
        let tensors: Vec<_> = common::llama_tensors()
            .into_iter()
            .map(|(name, _, shape)| {
                let bytes = vec![0; shape.iter().product::<usize>() * 4];
                (name, DType::F32, shape, bytes)
            })
            .collect();
        let metadata = |writer: &mut Writer| {
            writer.copy_metadata(&original).set(key, value);
        };
        let folder = Folder::new();
        let start = std::time::Instant::now();
        let model = folder.open("model.gguf", gguf(metadata, &tensors)).unwrap();
        let result = model.spec(&SpecOptions::default());
        assert!(start.elapsed().as_millis() < 500, "{key} = {value} took {:?}", start.elapsed());
        match result {
            Err(error) => assert!(error.to_string().contains("model.gguf"), "{error}"),
            // Nothing is made of a context until somebody asks for one.
            Ok(spec) => {
                assert!(key == "llama.vocab_size" && spec.vocab_size == common::VOCAB, "{key} = {value}")
            }
        }
    }
}

#[test]
fn what_is_not_a_file_is_not_read() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("a.gguf")).unwrap();
    assert!(Checkpoint::open(folder.path().join("a.gguf")).is_err());
    assert!(matches!(Checkpoint::open(folder.path().join("b.gguf")), Err(ModelError::Io { .. })));
    // Opening a pipe for reading would wait for a writer; a device has no end.
    assert!(Checkpoint::open("/dev/zero").is_err());
}
