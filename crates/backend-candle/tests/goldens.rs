//! Logits against Hugging Face transformers, for every architecture, format and device.

mod support;

use std::sync::Arc;

use perch_backend_candle::{CandleBackend, DeviceKind, KvDtype, LoadOptions};
use perch_engine::{Backend, Run, SeqId, Wanted};
use perch_model::{Checkpoint, Quantize};
use support::{Golden, POOL};

/// What the contract allows in f32.
const TOLERANCE: f32 = 1e-3;

/// Runs `check` on every golden and reports all failures together.
fn for_all(check: impl Fn(&Golden) -> Result<f32, String>) {
    let mut failures = Vec::new();
    let mut worst = 0.0_f32;
    for golden in Golden::all() {
        match check(&golden) {
            Ok(distance) => worst = worst.max(distance),
            Err(failure) => failures.push(format!("{}: {failure}", golden.name())),
        }
    }
    println!("largest distance of any logit: {worst:e}");
    assert!(failures.is_empty(), "{failures:#?}");
}

/// What our kernels allow beside: they round the activations that meet quantised weights to int8, as llama.cpp does.
fn rounding(golden: &Golden) -> f32 {
    if golden.name().ends_with("mxfp4") { 0.2 } else { 0.0 }
}

fn replay_within(golden: &Golden, device: DeviceKind, kv: KvDtype, tolerance: f32) -> Result<f32, String> {
    let mut worst = 0.0_f32;
    for file in golden.files() {
        let logits = golden.replay(&mut golden.load(&file, device, kv), SeqId(1), golden.prompt);
        let distance = golden.distance(0, &logits);
        println!("{} ({}): {distance:e}", golden.name(), file.extension().map_or("safetensors", |_| "gguf"));
        if distance > tolerance || logits.len() != golden.logits.len() {
            return Err(format!("{} is off by {distance}", file.display()));
        }
        worst = worst.max(distance);
    }
    Ok(worst)
}

#[test]
fn every_architecture_gives_the_logits_of_transformers() {
    for_all(|golden| replay_within(golden, DeviceKind::Cpu, KvDtype::F32, TOLERANCE + rounding(golden)));
}

#[test]
fn candles_own_kernels_give_them_too() {
    for_all(|golden| replay_within(golden, DeviceKind::CandleCpu, KvDtype::F32, TOLERANCE));
}

#[test]
fn a_half_precision_cache_costs_less_than_a_fiftieth_of_a_logit() {
    for_all(|golden| replay_within(golden, DeviceKind::Cpu, KvDtype::F16, 2e-2 + rounding(golden)));
}

#[test]
fn chunks_and_ragged_batches_give_the_same_bits_as_one_prompt() {
    for_all(|golden| {
        let vocab = golden.vocab();
        let mut backend = golden.load(&golden.folder, DeviceKind::Cpu, KvDtype::F16);
        let whole = golden.replay(&mut backend, SeqId(1), golden.prompt);
        if golden.replay(&mut backend, SeqId(2), 7) != whole {
            return Err("chunks of 7 differ from one prompt".into());
        }
        // Five sequences of the same tokens, each further ahead than the one before, advance in one pass.
        let lens = [0, 1, 13, 32, 47];
        for (i, len) in lens.into_iter().enumerate() {
            let seq = SeqId(10 + i as u32);
            backend.open(seq, &[]).unwrap();
            if len > 0 {
                let run = Run { seq, tokens: &golden.tokens[..len], position: 0, wanted: Wanted::None };
                backend.forward(&[run]).unwrap();
            }
        }
        let steps = [13, 1, 6, 9, 3];
        let runs = lens.into_iter().zip(steps).enumerate().map(|(i, (len, step))| Run {
            seq: SeqId(10 + i as u32),
            tokens: &golden.tokens[len..len + step],
            position: len,
            wanted: if i == 3 { Wanted::Last } else { Wanted::All },
        });
        let runs = runs.collect::<Vec<_>>();
        let logits = backend.forward(&runs).unwrap();
        let expected = lens.into_iter().zip(steps).enumerate().flat_map(|(i, (len, step))| {
            let first = if i == 3 { len + step - 1 } else { len };
            whole[first * vocab..(len + step) * vocab].to_vec()
        });
        if logits != expected.collect::<Vec<_>>() {
            return Err("a ragged batch of five differs from single runs".into());
        }
        Ok(0.0)
    });
}

#[test]
fn checkpoints_of_mlx_lm_mean_what_they_mean_to_it() {
    for golden in Golden::all_in("mlx-lm") {
        let mut backend = golden.load(&golden.folder, DeviceKind::Cpu, KvDtype::F32);
        let off = relative(&golden.replay(&mut backend, SeqId(1), golden.prompt), &golden.logits);
        println!("{}: {off}", golden.name());
        // Scales are rounded to f16 and activations to 8 bits, which may send a token to another expert.
        assert!(off < 0.12, "{} is off by {off}", golden.name());
    }
}

/// Length of the difference, by the length of `b`.
fn relative(a: &[f32], b: &[f32]) -> f32 {
    let square = |x: f32| x * x;
    let apart: f32 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (apart / b.iter().map(|b| square(*b)).sum::<f32>()).sqrt()
}

#[test]
fn weights_rounded_on_load_mean_the_same_to_our_kernels_and_to_candles() {
    let golden = Golden::named("qwen3");
    // Both round activations to int8, each in its own way. A width of 32 leaves every row one scale, so this is a bad case.
    for (quantize, lost) in [(Quantize::Q8_0, 0.04), (Quantize::Q4_0, 0.4)] {
        let [ours, candles] = [DeviceKind::Cpu, DeviceKind::CandleCpu].map(|device| {
            let mut options = LoadOptions::new(Arc::clone(&POOL));
            (options.device, options.kv_dtype) = (device, KvDtype::F32);
            options.quantize = Some(quantize);
            let mut backend =
                CandleBackend::load(&Checkpoint::open(&golden.folder).unwrap(), &options).unwrap();
            golden.replay(&mut backend, SeqId(0), 40)
        });
        let (apart, off) = (relative(&ours, &candles), relative(&ours, &golden.logits));
        println!("{quantize:?}: {apart} from candle's, {off} from the floats");
        assert!(apart < 0.03, "{quantize:?}: {apart} from candle's");
        assert!(off < lost, "{quantize:?}: {off} from the floats");
    }
}
