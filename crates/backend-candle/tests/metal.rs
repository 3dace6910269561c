//! Metal: the same logits as transformers and the same contract where there is a device, and a plain no where there is none.

mod support;

use std::sync::Arc;

use perch_backend_candle::{CandleBackend, DeviceKind, KvDtype, LoadError, LoadOptions};
use perch_engine::SeqId;
use perch_engine::testing::Conformance;
use perch_model::Checkpoint;
use support::{Golden, POOL};

/// What another order of additions and the kernels' own functions may cost.
const TOLERANCE: f32 = 1e-2;

/// Whether this machine runs these tests; if not, says why.
fn here() -> bool {
    match DeviceKind::Metal.check() {
        Ok(()) => true,
        Err(reason) => {
            println!("skipped: {reason}");
            false
        }
    }
}

#[test]
fn without_metal_loading_says_so_and_what_to_do() {
    if DeviceKind::Metal.check().is_ok() {
        return println!("skipped: this machine has Metal");
    }
    let mut options = LoadOptions::new(Arc::clone(&POOL));
    options.device = DeviceKind::Metal;
    let checkpoint = Checkpoint::open(&Golden::named("llama").folder).unwrap();
    let error = CandleBackend::load(&checkpoint, &options).err().expect("there is no Metal");
    assert!(matches!(error, LoadError::NoMetal(_)));
    assert!(error.to_string().contains("on the CPU instead"), "{error}");
    assert!(DeviceKind::Cpu.check().is_ok());
}

#[test]
fn every_architecture_gives_the_logits_of_transformers_on_metal() {
    if !here() {
        return;
    }
    let mut failures = Vec::new();
    for golden in Golden::all() {
        for file in golden.files() {
            let mut backend = golden.load(&file, DeviceKind::Metal, KvDtype::F32);
            let logits = golden.replay(&mut backend, SeqId(1), golden.prompt);
            let distance = golden.distance(0, &logits);
            println!("{}: {distance:e}", file.display());
            if distance > TOLERANCE || logits.len() != golden.logits.len() {
                failures.push(format!("{}: {distance}", file.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn metal_conforms_within_rounding() {
    if !here() {
        return;
    }
    for name in ["llama", "qwen3", "gpt-oss", "gemma2"] {
        let golden = Golden::named(name);
        let make = move || golden.load(&golden.folder, DeviceKind::Metal, KvDtype::F16);
        Conformance::new(make, 5e-2).all(4);
    }
}
