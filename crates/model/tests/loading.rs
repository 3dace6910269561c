//! What `Checkpoint::load` returns: views, copies, conversions, quantised matrices, against what others expand them to.

mod common;

use std::path::Path;

use common::{Folder, decode, encode, safetensors, weights};
use perch_model::{
    Checkpoint, DType, Format, ModelError, Packing, Quantize, RowSelect, Tensor, TensorIndex, Weight,
};

fn golden(name: &str) -> Checkpoint {
    Checkpoint::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    decode(tensor.dtype(), tensor.bytes())
}

/// A checkpoint of the tensors of one safetensors file.
fn checkpoint(tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) -> (Folder, Checkpoint) {
    let folder = Folder::new();
    folder.write("config.json", "{}");
    let model = folder.open("model.safetensors", safetensors(tensors)).unwrap();
    (folder, model)
}

#[test]
fn mlx_matrices_become_blocks_with_the_values_that_mlx_gives_them() {
    let (model, expected) = (golden("mlx/model.safetensors"), golden("mlx/expected.safetensors"));
    assert_eq!(model.format(), Format::MlxSafetensors);
    assert_eq!(model.quantization(), "4-bit (MLX)");
    let cases = [
        ("four.weight", DType::Q4_1, &[6, 128][..]),
        ("eight.weight", DType::Affine8, &[4, 64]),
        ("stack.weight", DType::Q4_1, &[3, 4, 256]),
        ("eights.weight", DType::Affine8, &[2, 3, 128]),
        ("exponent.weight", DType::Mxfp4, &[4, 64]),
        ("six.weight", DType::Affine8, &[4, 64]),
        ("five.weight", DType::Affine8, &[3, 96]),
        ("three.weight", DType::Affine8, &[4, 64]),
        ("two.weight", DType::Affine8, &[4, 64]),
        ("tiny_floats.weight", DType::F16, &[4, 64]),
    ];
    for (name, dtype, shape) in cases {
        assert_eq!(model.shape(name), Some(shape), "{name}");
        let tensor = model.load(&Weight::new(name), Some(Quantize::Q8_0)).unwrap();
        assert_eq!(tensor.dtype(), dtype, "{name}: what is quantised stays as it is");
        let expected = expected.load(&Weight::new(name), None).unwrap();
        assert_eq!((tensor.rows(), tensor.cols()), (expected.rows(), expected.cols()), "{name}");
        let expected = values(&expected);
        let largest = expected.iter().fold(0.0f32, |max, value| max.max(value.abs()));
        for (i, (value, expected)) in values(&tensor).iter().zip(&expected).enumerate() {
            // Half a unit in the last place of f16, for the scales that were f32; nothing else is rounded.
            let bound = largest * 2f32.powi(-11);
            assert!((value - expected).abs() <= bound, "{name}: element {i} is {value}, not {expected}");
        }
    }
    let names: Vec<&str> = model.names().collect();
    assert!(names.iter().all(|name| name.ends_with(".weight")), "scales and biases are parts: {names:?}");
}

#[test]
fn one_member_of_an_mlx_stack_is_the_same_rows_of_the_whole() {
    let model = golden("mlx");
    let whole = values(&model.load(&Weight::new("stack.weight"), None).unwrap());
    let member = model.load(&Weight::span("stack.weight", 4..8), None).unwrap();
    assert_eq!(values(&member), whole[4 * 256..8 * 256]);
    let by_index = Weight { index: Some(1), ..Weight::new("stack.weight") };
    assert_eq!(model.load(&by_index, None).unwrap().bytes(), member.bytes());
    let rows = RowSelect::Stride { start: 1, step: 4, count: 3 };
    let strided = model.load(&Weight { rows, ..Weight::new("stack.weight") }, None).unwrap();
    let expected: Vec<f32> = [1, 5, 9].iter().flat_map(|row| &whole[row * 256..][..256]).copied().collect();
    assert_eq!(values(&strided), expected);
}

#[test]
fn widths_that_mlx_has_and_perch_has_not_are_named() {
    let model = golden("mlx");
    assert_eq!(model.shape("eight_floats.weight"), Some(&[4, 64][..]));
    let error = model.load(&Weight::new("eight_floats.weight"), None).unwrap_err();
    assert!(matches!(error, ModelError::Unsupported(_)) && error.to_string().contains("mxfp8"), "{error}");
}

#[test]
fn packed_forms_are_the_files_own_words_for_the_rows_that_are_asked_for() {
    let model = golden("mlx");
    let whole = model.packed(&Weight::new("stack.weight")).unwrap().unwrap();
    assert_eq!((whole.rows, whole.cols, whole.bits, whole.group), (12, 256, 4, 128));
    assert_eq!(whole.packing, Packing::Affine(DType::F32));
    let (row, scales) = (256 / 8 * 4, 2 * 4);
    assert_eq!((whole.words.len(), whole.scales.len()), (12 * row, 12 * scales));
    let member = model.packed(&Weight::span("stack.weight", 4..8)).unwrap().unwrap();
    assert_eq!(member.words[..], whole.words[4 * row..8 * row]);
    assert_eq!(member.biases.unwrap()[..], whole.biases.as_ref().unwrap()[4 * scales..8 * scales]);
    let rows = RowSelect::Stride { start: 1, step: 4, count: 3 };
    let strided = model.packed(&Weight { rows, ..Weight::new("stack.weight") }).unwrap().unwrap();
    assert_eq!(strided.words[2 * row..], whole.words[9 * row..10 * row]);
    let floats = model.packed(&Weight::new("tiny_floats.weight")).unwrap().unwrap();
    assert_eq!((floats.packing, floats.scales.len(), floats.biases), (Packing::Nvfp4, 4 * 64 / 16, None));
    assert!(model.packed(&Weight::new("norm.weight")).unwrap().is_none());
    assert!(model.packed(&Weight::span("four.weight", 6..7)).unwrap_err().to_string().contains("no rows"));
}

#[test]
fn packed_experts_have_the_values_that_transformers_gives_them() {
    let (model, expected) = (golden("mxfp4/model.safetensors"), golden("mxfp4/expected.safetensors"));
    let name = "experts.gate_up_proj";
    assert_eq!(model.quantization(), "MXFP4");
    assert_eq!(model.shape(name), Some(&[2, 6, 96][..]));
    let expected = values(&expected.load(&Weight::new(name), None).unwrap());
    let tensor = model.load(&Weight::new(name), None).unwrap();
    assert_eq!(tensor.dtype(), DType::Mxfp4);
    assert_eq!(values(&tensor), expected);
    // Gate and up alternate: the up rows of the second expert are rows 7, 9 and 11 of all.
    let rows = RowSelect::Stride { start: 1, step: 2, count: 3 };
    let up = model.load(&Weight { rows, index: Some(1), ..Weight::new(name) }, None).unwrap();
    let wanted: Vec<f32> = [7, 9, 11].iter().flat_map(|row| &expected[row * 96..][..96]).copied().collect();
    assert_eq!(values(&up), wanted);
}

#[test]
fn rows_are_views_and_strides_are_copies() {
    let stored = weights(1, 6 * 4);
    let (_folder, model) = checkpoint(&[("w", "F32", vec![6, 4], encode(DType::F32, &stored))]);
    for (weight, rows, owned) in [
        (Weight::new("w"), vec![0, 1, 2, 3, 4, 5], false),
        (Weight::span("w", 2..4), vec![2, 3], false),
        (
            Weight { rows: RowSelect::Stride { start: 1, step: 2, count: 3 }, ..Weight::new("w") },
            vec![1, 3, 5],
            true,
        ),
        (
            Weight { rows: RowSelect::Stride { start: 4, step: 1, count: 2 }, ..Weight::new("w") },
            vec![4, 5],
            false,
        ),
    ] {
        let tensor = model.load(&weight, None).unwrap();
        let expected: Vec<f32> = rows.iter().flat_map(|row| &stored[row * 4..][..4]).copied().collect();
        assert_eq!((values(&tensor), tensor.is_owned()), (expected, owned), "{weight:?}");
    }
}

#[test]
fn a_transposed_matrix_comes_the_right_way_round_whatever_its_type() {
    // More rows than a panel has, so that borders between panels are crossed.
    let (inputs, outputs) = (32, 50);
    let stored: Vec<f32> = (0..2 * inputs * outputs).map(|i| (i % 251) as f32).collect();
    for (dtype, name) in [(DType::F32, "F32"), (DType::F16, "F16"), (DType::BF16, "BF16")] {
        let shape = vec![2, inputs, outputs];
        let (_folder, model) = checkpoint(&[("w", name, shape, encode(dtype, &stored))]);
        let rows = RowSelect::Stride { start: 1, step: 2, count: outputs / 2 };
        let weight = Weight { rows, transpose: true, index: Some(1), ..Weight::new("w") };
        let expected: Vec<f32> = (0..outputs / 2)
            .flat_map(|r| (0..inputs).map(move |c| inputs * outputs + c * outputs + 1 + 2 * r))
            .map(|i| stored[i])
            .collect();
        let tensor = model.load(&weight, None).unwrap();
        assert_eq!((tensor.rows(), tensor.cols(), tensor.dtype()), (outputs / 2, inputs, dtype));
        assert_eq!(values(&tensor), expected);
        let quantised = model.load(&weight, Some(Quantize::Q8_0)).unwrap();
        assert_eq!(quantised.bytes(), encode(DType::Q8_0, &expected), "{name}");
    }
}

#[test]
fn a_matrix_is_quantised_on_load_as_its_rows_would_be() {
    let (rows, cols) = (70, 256);
    let stored = weights(9, rows * cols);
    let (_folder, model) = checkpoint(&[("w", "F32", vec![rows, cols], encode(DType::F32, &stored))]);
    for (quantize, dtype) in [
        (Quantize::Q8_0, DType::Q8_0),
        (Quantize::Q4_0, DType::Q4_0),
        (Quantize::Q4K, DType::Q4K),
        (Quantize::Q6K, DType::Q6K),
    ] {
        let tensor = model.load(&Weight::span("w", 3..rows), Some(quantize)).unwrap();
        assert_eq!((tensor.dtype(), tensor.rows(), tensor.cols()), (dtype, rows - 3, cols));
        assert_eq!(tensor.bytes(), encode(dtype, &stored[3 * cols..]), "{quantize:?}");
    }
}

#[test]
fn what_cannot_take_a_quantisation_takes_the_next_or_stays() {
    assert_eq!(Quantize::Q4K.target(DType::BF16, 512), Some(DType::Q4K));
    assert_eq!(Quantize::Q4K.target(DType::BF16, 576), Some(DType::Q8_0), "576 is no multiple of 256");
    assert_eq!(Quantize::Q4_0.target(DType::F32, 576), Some(DType::Q4_0));
    assert_eq!(Quantize::Q8_0.target(DType::F16, 40), None);
    assert_eq!(Quantize::Q8_0.target(DType::Q4K, 512), None, "quantised already");
    assert_eq!("Q4_K".parse(), Ok(Quantize::Q4K));
    assert!("q5_k".parse::<Quantize>().unwrap_err().contains("q8_0"));
    let (_folder, model) =
        checkpoint(&[("bias", "F32", vec![64], vec![0; 256]), ("odd", "F16", vec![2, 40], vec![0; 160])]);
    for name in ["bias", "odd"] {
        assert!(!model.load(&Weight::new(name), Some(Quantize::Q8_0)).unwrap().is_owned(), "{name}");
    }
}

#[test]
fn the_mix_spends_six_bits_where_llama_cpp_does() {
    // `use_more_bits` of llama-quantize, for 32 layers.
    let more: Vec<usize> =
        (0..32).filter(|layer| Quantize::Q4K.for_value_or_down(*layer, 32) == Quantize::Q6K).collect();
    assert_eq!(more, [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    assert_eq!(Quantize::Q8_0.for_value_or_down(0, 32), Quantize::Q8_0);
}

#[test]
fn parts_of_blocks_and_of_packed_rows_are_refused() {
    let file = common::gguf(|_| {}, &[("w", DType::Q8_0, vec![64, 32], vec![0; 64 * 34])]);
    let folder = Folder::new();
    let model = folder.open("a.gguf", file).unwrap();
    let transposed = Weight { transpose: true, ..Weight::new("w") };
    assert!(model.load(&transposed, None).unwrap_err().to_string().contains("whole blocks"));
    let mlx = golden("mlx");
    let transposed = Weight { transpose: true, ..Weight::new("four.weight") };
    assert!(mlx.load(&transposed, None).unwrap_err().to_string().contains("whole blocks"));
    assert!(mlx.load(&Weight::new("missing"), None).unwrap_err().to_string().contains("missing"));
    assert!(mlx.load(&Weight::span("four.weight", 6..7), None).unwrap_err().to_string().contains("no rows"));
}

#[test]
fn scales_that_sixteen_bits_cannot_hold_are_refused() {
    let scheme = r#"{"quantization":{"bits":4,"group_size":32}}"#;
    let folder = Folder::new();
    folder.write("config.json", scheme);
    let scales = [1.0f32, 1e6].iter().flat_map(|value| value.to_le_bytes()).collect();
    let file = safetensors(&[
        ("a.weight", "U32", vec![2, 4], vec![0; 32]),
        ("a.scales", "F32", vec![2, 1], scales),
        ("a.biases", "F32", vec![2, 1], vec![0; 8]),
    ]);
    let model = folder.open("model.safetensors", file).unwrap();
    assert!(model.load(&Weight::span("a.weight", 0..1), None).is_ok());
    assert!(model.load(&Weight::new("a.weight"), None).unwrap_err().to_string().contains("not finite"));
}

#[test]
fn only_small_tensors_are_read_as_values() {
    let (_folder, model) = checkpoint(&[
        ("small", "BF16", vec![2], encode(DType::BF16, &[1.5, -2.0])),
        ("large", "F32", vec![65_537], vec![0; 4 * 65_537]),
        ("whole", "I64", vec![1], vec![0; 8]),
    ]);
    assert_eq!(model.values("small").unwrap(), [1.5, -2.0]);
    assert!(model.values("large").unwrap_err().to_string().contains("65536"));
    assert!(model.values("whole").unwrap_err().to_string().contains("I64"));
}

#[test]
fn shards_are_one_model_and_side_files_are_found_beside_them() {
    let folder = Folder::new();
    folder.write("config.json", r#"{"max_position_embeddings": 77, "architectures": ["X"]}"#);
    folder.write("tokenizer.json", "{}");
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    folder.write(a, safetensors(&[("a", "F16", vec![2, 2], vec![0; 8])]));
    folder.write(b, safetensors(&[("b", "F16", vec![3], vec![0; 6])]));
    let index = format!(r#"{{"metadata":{{}},"weight_map":{{"a":"{a}","b":"{b}"}}}}"#);
    folder.write("model.safetensors.index.json", index);
    for opened in ["", a, b] {
        let model = Checkpoint::open(folder.path().join(opened)).unwrap();
        assert_eq!(model.names().collect::<Vec<_>>(), ["a", "b"], "{opened}");
        assert_eq!((model.parameters(), model.weights_bytes()), (7, 14));
        assert_eq!(model.quantization(), "F16");
        assert_eq!((model.context_length(), model.architecture()), (Some(77), Some("X")));
        assert_eq!(model.path_of("tokenizer.json"), Some(folder.path().join("tokenizer.json")));
        for name in ["tokenizer.model", "../config.json", "/etc/hosts", "..", "", "./config.json/"] {
            assert_eq!(model.path_of(name), None, "{name}");
        }
        model.prefetch();
    }
}
