//! The `Backend` contract, on real checkpoints.

#![cfg(feature = "mlx")]

mod support;

use std::sync::Arc;

use perch_backend_mlx::{LoadError, LoadOptions, MlxBackend};
use perch_engine::testing::Conformance;
use perch_engine::{Backend, BackendError, Run, SeqId, Wanted};
use perch_model::{Checkpoint, Quantize};
use support::{Golden, exact};

/// MLX chooses other kernels for other sizes, which add up in another order.
const ROUNDING: f32 = 1e-3;

fn suite(name: &str) -> Conformance<impl Fn() -> MlxBackend> {
    let golden = Golden::named(name);
    Conformance::new(move || golden.load(&golden.folder).unwrap(), ROUNDING)
}

#[test]
fn llama_conforms() {
    suite("llama").all(6);
}

#[test]
fn a_sliding_window_with_sinks_and_experts_conforms() {
    suite("gpt-oss").all(3);
}

#[test]
fn softcaps_and_two_rotary_tables_conform() {
    suite("gemma2").all(2);
    suite("gemma3").all(2);
}

#[test]
fn weights_rounded_on_load_conform_and_mean_nearly_the_same() {
    let golden = Golden::named("llama");
    for (quantize, lost) in [(Quantize::Q8_0, 0.05), (Quantize::Q6K, 0.2), (Quantize::Q4K, 0.6)] {
        let make = || {
            let options = LoadOptions { quantize: Some(quantize), ..exact() };
            MlxBackend::load(Arc::new(Checkpoint::open(&golden.folder).unwrap()), options).unwrap()
        };
        Conformance::new(make, ROUNDING).batches_equal_single_runs();
        let logits = golden.replay(&mut make(), SeqId(1), golden.prompt);
        let square = |x: f32| x * x;
        let apart: f32 = logits.iter().zip(&golden.logits).map(|(a, b)| square(a - b)).sum();
        let off = (apart / golden.logits.iter().map(|b| square(*b)).sum::<f32>()).sqrt();
        println!("{quantize:?}: {off} from the floats");
        assert!(off > 0.0 && off < lost, "{quantize:?}: {off} from the floats");
    }
}

#[test]
fn what_mlx_has_no_form_for_is_refused_by_name() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../guide/guide.gguf");
    // Q8_0 has one.
    MlxBackend::load(Arc::new(Checkpoint::open(file).unwrap()), exact()).unwrap();
    if !cfg!(target_os = "macos") {
        let checkpoint = Arc::new(Checkpoint::open(Golden::named("llama").folder).unwrap());
        let error = MlxBackend::load(checkpoint, LoadOptions::default()).err().unwrap();
        assert!(matches!(&error, LoadError::Device(why) if why.contains("GPU")), "{error}");
    }
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_and_changes_nothing() {
    let golden = Golden::named("llama");
    let mut backend = golden.load(&golden.folder).unwrap();
    let seq = SeqId(1);
    backend.open(seq, &[]).unwrap();
    let run = |tokens, position| Run { seq, tokens, position, wanted: Wanted::Last };
    let first = backend.forward(&[run(&[1, 2, 3], 0)]).unwrap();
    let beyond = [backend.limits().vocab_size as u32];
    let error = backend.forward(&[run(&beyond, 3)]).unwrap_err();
    assert!(matches!(&error, BackendError::Invalid(why) if why.contains("vocabulary")), "{error}");
    backend.truncate(seq, 2).unwrap();
    let again = backend.forward(&[run(&[3], 2)]).unwrap();
    assert!(first.iter().zip(&again).all(|(a, b)| (a - b).abs() < ROUNDING));
}
