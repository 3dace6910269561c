//! Block types against vectors made by others: the `gguf` package expands the same blocks, ggml's C code rounds the same
//! rows (`goldens/quants/make.py` says how they were made).

use std::path::Path;

use perch_model::DType;
use perch_model::quant::{dequantize_row, quantize_row};

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/quants").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

fn dequantize(dtype: DType, blocks: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; blocks.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize_row(dtype, blocks, &mut values);
    values
}

fn quantize(dtype: DType, values: &[f32]) -> Vec<u8> {
    let mut blocks = vec![0xaa; dtype.row_bytes(values.len()).unwrap()];
    assert!(quantize_row(dtype, values, &mut blocks));
    blocks
}

fn squared_error(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

const READ: [(DType, &str); 13] = [
    (DType::F16, "F16"),
    (DType::BF16, "BF16"),
    (DType::Q4_0, "Q4_0"),
    (DType::Q4_1, "Q4_1"),
    (DType::Q5_0, "Q5_0"),
    (DType::Q5_1, "Q5_1"),
    (DType::Q8_0, "Q8_0"),
    (DType::Q2K, "Q2_K"),
    (DType::Q3K, "Q3_K"),
    (DType::Q4K, "Q4_K"),
    (DType::Q5K, "Q5_K"),
    (DType::Q6K, "Q6_K"),
    (DType::Mxfp4, "MXFP4"),
];

#[test]
fn every_block_type_expands_to_the_values_of_the_gguf_package() {
    for (dtype, name) in READ {
        let values = dequantize(dtype, &golden(&format!("{name}.blocks")));
        let expected = floats(&golden(&format!("{name}.f32")));
        assert_eq!(values.len(), expected.len(), "{name}");
        for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
            assert!(value == expected, "{name}: element {i} is {value}, not {expected}");
        }
    }
}

#[test]
fn floats_survive_the_way_through_their_own_type() {
    let values = floats(&golden("values.f32"));
    assert_eq!(quantize(DType::F32, &values), golden("values.f32"));
    for (dtype, name) in [(DType::F16, "F16"), (DType::BF16, "BF16")] {
        let blocks = golden(&format!("{name}.blocks"));
        assert_eq!(quantize(dtype, &floats(&golden(&format!("{name}.f32")))), blocks, "{name}");
    }
}

#[test]
fn quantised_blocks_equal_ggmls_bit_by_bit() {
    let values = floats(&golden("values.f32"));
    for (dtype, name) in
        [(DType::Q8_0, "Q8_0"), (DType::Q4_0, "Q4_0"), (DType::Q4K, "Q4_K"), (DType::Q6K, "Q6_K")]
    {
        let (ours, theirs) = (quantize(dtype, &values), golden(&format!("values.{name}")));
        let differs = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differs, None, "{name}: first byte that differs");
        assert_eq!(ours.len(), theirs.len(), "{name}");
    }
}

#[test]
fn the_error_of_normal_weights_stays_within_the_known_bounds() {
    // Signal to noise of ggml's types on normally distributed weights, in dB, rounded down.
    let values = &floats(&golden("values.f32"))[..512];
    let power: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
    for (dtype, bound) in [(DType::Q4_0, 20.0), (DType::Q4K, 22.0), (DType::Q6K, 34.0), (DType::Q8_0, 43.0)] {
        let error = squared_error(&dequantize(dtype, &quantize(dtype, values)), values);
        let ratio = 10.0 * (power / error).log10();
        assert!(ratio > bound, "{dtype:?}: {ratio} dB");
    }
}

#[test]
fn infinities_and_nans_in_weights_do_not_stop_the_quantiser() {
    let mut values = vec![0.5f32; 512];
    (values[3], values[300], values[301]) = (f32::NAN, f32::INFINITY, -f32::MAX);
    for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4K, DType::Q6K] {
        quantize(dtype, &values);
    }
}

#[test]
fn types_that_are_only_read_are_not_written() {
    assert!(!quantize_row(DType::Q5K, &[0.0; 256], &mut [0; 176]));
}

#[test]
#[should_panic(expected = "other lengths")]
fn a_row_of_the_wrong_length_is_a_programming_error() {
    dequantize_row(DType::Q4_0, &[0; 17], &mut [0.0; 32]);
}
