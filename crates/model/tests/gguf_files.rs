//! GGUF files that are as they should be: read and written against a file of the `gguf` package, split, copied.

mod common;

use common::{Folder, decode, encode, gguf, llama_gguf, llama_metadata, weights};
use perch_model::gguf::{Metadata, Writer};
use perch_model::{Checkpoint, DType, Format, SpecOptions, TensorIndex, Weight};

/// Made by `goldens/gguf/make.py`.
const EVERY_TYPE: &[u8] = include_bytes!("goldens/gguf/every_type.gguf");

#[test]
fn every_value_type_of_the_gguf_package_is_read() {
    let meta = Metadata::from_bytes("every_type.gguf", EVERY_TYPE).unwrap();
    assert_eq!(meta.architecture().unwrap(), "test");
    assert_eq!(meta.get_u64("a.u8"), Some(200));
    assert_eq!(meta.get_u64("a.u16"), Some(60_000));
    assert_eq!(meta.get_u64("a.u32"), Some(4_000_000_000));
    assert_eq!(meta.get_u64("a.u64"), Some(1 << 63));
    assert_eq!(meta.get_f32("a.f32"), Some(0.1));
    assert_eq!(meta.get_f32("a.f64"), Some(0.0));
    assert_eq!(meta.get_bool("a.bool"), Some(true));
    assert_eq!(meta.get_str("a.string"), Some("naïve ☕"));
    let strings = meta.get_strs("b.strings").unwrap();
    assert_eq!(strings.len(), 3);
    assert_eq!(strings.clone().collect::<Vec<_>>(), ["<s>", "", "▁the"]);
    assert_eq!(meta.get_f32s("b.f32s").unwrap(), [0.5, -1.5]);
    assert_eq!(meta.get_i64s("b.i32s").unwrap(), [1, -1, 3]);
    assert_eq!(meta.get_bools("b.bools").unwrap(), [true, false]);
}

#[test]
fn version_two_is_read_like_version_three() {
    let mut file = EVERY_TYPE.to_vec();
    file[4] = 2;
    let folder = Folder::new();
    let (two, three) = (folder.open("2.gguf", file).unwrap(), folder.open("3.gguf", EVERY_TYPE).unwrap());
    assert!(two.names().eq(three.names()) && two.names().count() == 4);
    assert_eq!(two.values("stack").unwrap(), three.values("stack").unwrap());
}

#[test]
fn a_value_of_another_type_is_none_or_an_error_that_names_the_key() {
    let meta = Metadata::from_bytes("every_type.gguf", EVERY_TYPE).unwrap();
    assert_eq!(meta.get_u64("a.i8"), None, "negative");
    assert_eq!(meta.get_u64("a.string"), None);
    assert_eq!(meta.get_u64s("b.i32s"), None, "one of them is negative");
    assert_eq!(meta.get_str("a.u8"), None);
    let text = meta.require_u64("a.string").unwrap_err().to_string();
    assert!(
        text.contains("every_type.gguf") && text.contains("\"a.string\"") && text.contains("string"),
        "{text}"
    );
    let text = meta.require_str("nothing").unwrap_err().to_string();
    assert!(text.contains("\"nothing\"") && text.contains("missing"), "{text}");
    let text = meta.require_f32s("b.strings").unwrap_err().to_string();
    assert!(text.contains("array of 3"), "{text}");
    assert_eq!(meta.get_per_layer("a.u8", 2), Some(vec![200, 200]));
    assert!(meta.require_per_layer("b.i32s", 2).is_err());
}

#[test]
fn the_writer_makes_the_very_bytes_of_the_gguf_package() {
    let blocks: Vec<u8> = (0..136).collect();
    let floats = |n: usize| -> Vec<u8> { (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect() };
    let halves: Vec<f32> = (0..6).map(|i| i as f32).collect();
    let file = gguf(
        |writer| {
            writer
                .set("general.architecture", "test")
                .set("a.u8", 200u8)
                .set("a.i8", -100i8)
                .set("a.u16", 60_000u16)
                .set("a.i16", -30_000i16)
                .set("a.u32", 4_000_000_000u32)
                .set("a.i32", -2_000_000_000i32)
                .set("a.f32", 0.1f32)
                .set("a.bool", true)
                .set("a.string", "naïve ☕")
                .set("a.u64", 1u64 << 63)
                .set("a.i64", -(1i64 << 62))
                .set("a.f64", 1e-300f64)
                .set("b.strings", &["<s>", "", "▁the"][..])
                .set("b.f32s", &[0.5f32, -1.5][..])
                .set("b.i32s", &[1i32, -1, 3][..])
                .set("b.bools", &[true, false][..]);
        },
        &[
            ("vector", DType::F32, vec![3], floats(3)),
            ("matrix", DType::F16, vec![2, 3], encode(DType::F16, &halves)),
            ("blocks", DType::Q8_0, vec![2, 64], blocks),
            ("stack", DType::F32, vec![2, 3, 4], floats(24)),
        ],
    );
    assert_eq!(file, EVERY_TYPE);
}

#[test]
fn tensors_are_views_of_the_file_with_their_dimensions_outermost_first() {
    let folder = Folder::new();
    let model = folder.open("a.gguf", EVERY_TYPE).unwrap();
    assert_eq!(model.format(), Format::Gguf);
    assert_eq!(model.shape("stack"), Some(&[2, 3, 4][..]));
    assert_eq!(model.shape("missing"), None);
    let row = model.load(&Weight::span("stack", 4..5), None).unwrap();
    assert!(!row.is_owned());
    assert_eq!(decode(row.dtype(), row.bytes()), [16.0, 17.0, 18.0, 19.0]);
    let matrix = model.load(&Weight::new("matrix"), None).unwrap();
    assert_eq!((matrix.dtype(), matrix.rows(), matrix.cols()), (DType::F16, 2, 3));
    assert_eq!(decode(DType::F16, matrix.bytes()), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let blocks = model.load(&Weight::span("blocks", 1..2), None).unwrap();
    assert_eq!(blocks.bytes(), (68..136).collect::<Vec<u8>>());
}

#[test]
fn a_model_that_is_part_of_the_program_is_read_like_a_file_and_not_copied() {
    let file = Folder::new().open("a.gguf", EVERY_TYPE).unwrap();
    let model = Checkpoint::open_static("built in", EVERY_TYPE).unwrap();
    assert!(model.names().eq(file.names()));
    assert_eq!((model.format(), model.file_bytes()), (Format::Gguf, EVERY_TYPE.len() as u64));
    let blocks = model.load(&Weight::new("blocks"), None).unwrap();
    assert!(EVERY_TYPE.as_ptr_range().contains(&blocks.bytes().as_ptr()), "a copy was made");
    assert_eq!(blocks.bytes(), file.load(&Weight::new("blocks"), None).unwrap().bytes());
    let text = Checkpoint::open_static("built in", &EVERY_TYPE[..100]).unwrap_err().to_string();
    assert!(text.contains("built in"), "{text}");
}

#[test]
fn metadata_are_copied_bit_by_bit() {
    let meta = Metadata::from_bytes("every_type.gguf", EVERY_TYPE).unwrap();
    let mut writer = Writer::new();
    writer.copy_metadata(&meta).set("a.u8", 7u8);
    let copy = writer.begin(Vec::new()).unwrap().finish().unwrap();
    let copy = Metadata::from_bytes("copy.gguf", &copy).unwrap();
    assert_eq!(copy.keys().collect::<Vec<_>>(), meta.keys().collect::<Vec<_>>());
    assert_eq!(copy.get_u64("a.u8"), Some(7));
    assert_eq!(copy.get_str("a.string"), meta.get_str("a.string"));
    assert!(copy.get_strs("b.strings").unwrap().eq(meta.get_strs("b.strings").unwrap()));
    assert_eq!(copy.get_f32s("b.f32s"), meta.get_f32s("b.f32s"));
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let mut writer = Writer::new();
    assert!(writer.declare("", DType::F32, &[1]).is_err());
    assert!(writer.declare(&"x".repeat(256), DType::F32, &[1]).is_err());
    assert!(writer.declare("a", DType::F32, &[]).is_err());
    assert!(writer.declare("a", DType::F32, &[1, 0]).is_err());
    assert!(writer.declare("a", DType::Q4K, &[2, 255]).is_err());
    assert!(writer.declare("a", DType::Affine8, &[32]).is_err());
    assert!(writer.declare("a", DType::F32, &[usize::MAX, 2]).is_err());
    writer.declare("a", DType::F32, &[2]).unwrap();
    assert!(writer.declare("a", DType::F32, &[2]).is_err());
    let mut body = writer.begin(Vec::new()).unwrap();
    assert!(body.write(&[0; 9]).is_err());
    body.write(&[0; 4]).unwrap();
    assert!(body.finish().is_err());
}

fn part(no: u16, count: u16, tensors: &[(&str, DType, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let metadata = |writer: &mut Writer| {
        if no == 0 {
            llama_metadata(writer);
        }
        writer.set("split.no", no).set("split.count", count).set("split.tensors.count", 3i32);
    };
    gguf(metadata, tensors)
}

fn row(name: &'static str, seed: u64) -> (&'static str, DType, Vec<usize>, Vec<u8>) {
    (name, DType::F32, vec![4], encode(DType::F32, &weights(seed, 4)))
}

#[test]
fn any_part_of_a_split_model_opens_all_of_them() {
    let folder = Folder::new();
    folder.write("m-00001-of-00003.gguf", part(0, 3, &[]));
    folder.write("m-00002-of-00003.gguf", part(1, 3, &[row("a", 1), row("b", 2)]));
    folder.write("m-00003-of-00003.gguf", part(2, 3, &[row("c", 3)]));
    for opened in ["m-00001-of-00003.gguf", "m-00003-of-00003.gguf", ""] {
        let model = Checkpoint::open(folder.path().join(opened)).unwrap();
        assert_eq!(model.names().collect::<Vec<_>>(), ["a", "b", "c"], "{opened}");
        assert_eq!(model.files().count(), 3);
        assert_eq!(model.architecture(), Some("llama"), "metadata are the first part's");
        assert_eq!(model.values("c").unwrap(), weights(3, 4));
    }
}

#[test]
fn parts_that_do_not_belong_together_are_named() {
    let cases: [(&str, Vec<u8>, Vec<u8>); 4] = [
        ("is missing", part(0, 2, &[]), vec![]),
        ("split.no", part(0, 2, &[]), part(0, 2, &[])),
        ("split.tensors.count", part(0, 2, &[row("a", 1)]), part(1, 2, &[row("b", 1)])),
        ("another file", part(0, 2, &[row("a", 1), row("b", 1)]), part(1, 2, &[row("a", 1)])),
    ];
    for (expected, first, second) in cases {
        let folder = Folder::new();
        if !second.is_empty() {
            folder.write("m-00002-of-00002.gguf", second);
        }
        let error = common::reason(folder.open("m-00001-of-00002.gguf", first));
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    }
    let folder = Folder::new();
    assert!(common::reason(folder.open("m.gguf", part(0, 2, &[]))).contains("not named like one"));
    assert!(
        common::reason(folder.open("m-00001-of-00003.gguf", part(0, 2, &[]))).contains("split.count is 2")
    );
}

#[test]
fn a_small_llama_tells_what_it_is() {
    let folder = Folder::new();
    let model = folder.open("llama.gguf", llama_gguf()).unwrap();
    assert_eq!(model.quantization(), "Q8_0");
    assert_eq!(model.context_length(), Some(128));
    assert_eq!(model.path_of("llama.gguf"), None, "a GGUF has no side files");
    let matrices = 32 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64);
    let norms = 64 * 5;
    assert_eq!(model.parameters(), matrices + norms);
    assert_eq!(model.weights_bytes(), matrices / 32 * 34 + norms * 4);
    assert!(model.file_bytes() > model.weights_bytes());
    let spec = model.spec(&SpecOptions::default()).unwrap();
    assert_eq!((spec.layers.len(), spec.vocab_size, spec.context_length), (2, 32, 128));
}
