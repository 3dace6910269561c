//! The `Backend` contract, on real checkpoints: batch invariance bit for bit, blocks, forks, errors that change nothing.

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use perch_backend_candle::{CandleBackend, DeviceKind, KvDtype, LoadOptions, Pool};
use perch_engine::testing::Conformance;
use perch_engine::{Backend, BackendError, BlockId, Run, SeqId, Wanted};
use perch_model::{Checkpoint, Quantize};
use support::{Golden, POOL};

/// The suite on the golden called `name`.
fn suite(name: &str, device: DeviceKind, tolerance: f32) -> Conformance<impl Fn() -> CandleBackend> {
    let golden = Golden::named(name);
    Conformance::new(move || golden.load(&golden.folder, device, KvDtype::F16), tolerance)
}

fn run(seq: SeqId, tokens: &[u32], position: usize) -> Run<'_> {
    Run { seq, tokens, position, wanted: Wanted::Last }
}

#[test]
fn llama_conforms_bit_for_bit() {
    suite("llama", DeviceKind::Cpu, 0.0).all(12);
}

#[test]
fn a_sliding_window_with_sinks_and_experts_conforms_bit_for_bit() {
    suite("gpt-oss", DeviceKind::Cpu, 0.0).all(6);
}

#[test]
fn softcaps_and_two_rotary_tables_conform_bit_for_bit() {
    suite("gemma2", DeviceKind::Cpu, 0.0).all(4);
    suite("gemma3", DeviceKind::Cpu, 0.0).all(4);
}

#[test]
fn candles_own_kernels_conform_within_rounding() {
    suite("qwen3", DeviceKind::CandleCpu, 1e-2).all(4);
}

#[test]
fn quantised_weights_conform_bit_for_bit() {
    let golden = Golden::named("llama");
    let make = || {
        let mut options = LoadOptions::new(Arc::clone(&POOL));
        options.quantize = Some(Quantize::Q8_0);
        CandleBackend::load(&Checkpoint::open(&golden.folder).unwrap(), &options).unwrap()
    };
    Conformance::new(make, 0.0).all(4);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let golden = Golden::named("qwen3");
    let logits = [1, 2, 3, 5].map(|threads| {
        let options = LoadOptions::new(Arc::new(Pool::new(threads)));
        let mut backend = CandleBackend::load(&Checkpoint::open(&golden.folder).unwrap(), &options).unwrap();
        golden.replay(&mut backend, SeqId(0), 13)
    });
    assert!(logits.iter().all(|other| *other == logits[0]));
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_and_changes_nothing() {
    let golden = Golden::named("llama");
    let mut backend = golden.load(&golden.folder, DeviceKind::Cpu, KvDtype::F16);
    let vocab = backend.limits().vocab_size as u32;
    let (good, bad) = (SeqId(1), SeqId(2));
    backend.open(good, &[]).unwrap();
    backend.open(bad, &[]).unwrap();
    let first = backend.forward(&[run(good, &[1, 2, 3], 0)]).unwrap();
    for tokens in [[vocab, 0], [0, u32::MAX]] {
        let error = backend.forward(&[run(good, &[4, 5], 3), run(bad, &tokens, 0)]).unwrap_err();
        assert!(matches!(&error, BackendError::Invalid(why) if why.contains("vocabulary")), "{error}");
    }
    backend.truncate(good, 2).unwrap();
    assert_eq!(backend.forward(&[run(good, &[3], 2)]).unwrap(), first);
}

#[test]
fn a_run_beyond_the_context_is_refused_with_both_numbers() {
    let golden = Golden::named("llama");
    let mut backend = golden.load(&golden.folder, DeviceKind::Cpu, KvDtype::F16);
    let context = backend.limits().context_length;
    backend.open(SeqId(1), &[]).unwrap();
    let tokens = vec![1; context + 1];
    let run = Run { seq: SeqId(1), tokens: &tokens, position: 0, wanted: Wanted::None };
    let error = backend.forward(&[run]).unwrap_err().to_string();
    assert!(error.contains(&context.to_string()) && error.contains(&(context + 1).to_string()), "{error}");
    backend.forward(&[Run { tokens: &tokens[1..], ..run }]).unwrap();
}

#[test]
fn one_sequence_cannot_have_two_runs_in_a_pass() {
    let golden = Golden::named("llama");
    let mut backend = golden.load(&golden.folder, DeviceKind::Cpu, KvDtype::F16);
    backend.open(SeqId(1), &[]).unwrap();
    let run = run(SeqId(1), &[1], 0);
    assert!(matches!(backend.forward(&[run, run]), Err(BackendError::Invalid(_))));
    assert!(backend.forward(&[]).unwrap().is_empty());
    backend.forward(&[run]).unwrap();
}

#[test]
fn a_fork_writes_to_a_page_of_its_own() {
    let golden = Golden::named("llama");
    let mut backend = golden.load(&golden.folder, DeviceKind::Cpu, KvDtype::F16);
    let (origin, copy) = (SeqId(1), SeqId(2));
    backend.open(origin, &[]).unwrap();
    backend.forward(&[run(origin, &golden.tokens[..40], 0)]).unwrap();
    backend.fork(origin, copy).unwrap();
    // Both write position 40, in one pass, with different tokens.
    let both = backend.forward(&[run(origin, &[7], 40), run(copy, &[9], 40)]).unwrap();
    // A block that a cut sequence still shares must not change under it either.
    backend.save(origin, 0, BlockId(1)).unwrap();
    backend.truncate(copy, 20).unwrap();
    backend.forward(&[run(copy, &[3; 15], 20)]).unwrap();
    let heir = SeqId(3);
    backend.open(heir, &[BlockId(1)]).unwrap();
    backend.forward(&[run(heir, &golden.tokens[32..40], 32)]).unwrap();
    let again = backend.forward(&[run(heir, &[7], 40)]).unwrap();
    assert_eq!(again, both[..golden.vocab()]);
    assert_ne!(both[..golden.vocab()], both[golden.vocab()..]);
}

/// The folder of real models, if this machine has it.
fn real_models() -> Option<PathBuf> {
    let named = std::env::var_os("PERCH_SHARED_MODELS").map(PathBuf::from);
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/models"));
    named.into_iter().chain([beside]).map(|folder| folder.join("stories260k")).find(|folder| folder.is_dir())
}

/// The pieces of stories260k's vocabulary, by token id.
fn pieces(folder: &std::path::Path) -> Vec<String> {
    let tokenizer = std::fs::read(folder.join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_slice(&tokenizer).unwrap();
    let mut pieces = vec![String::new(); 512];
    for (piece, id) in tokenizer["model"]["vocab"].as_object().unwrap() {
        let byte =
            piece.strip_prefix("<0x").and_then(|hex| u8::from_str_radix(hex.trim_end_matches('>'), 16).ok());
        let text = byte.map_or_else(|| piece.replace('\u{2581}', " "), |byte| char::from(byte).to_string());
        pieces[id.as_u64().unwrap() as usize] = text;
    }
    pieces
}

#[test]
fn stories260k_tells_its_published_story() {
    let Some(folder) = real_models() else {
        println!("skipped: no stories260k; set PERCH_SHARED_MODELS to a folder that has it");
        return;
    };
    let pieces = pieces(&folder);
    let expected = std::fs::read_to_string(folder.join("expected_greedy.txt")).unwrap();
    for file in [folder.clone(), folder.join("stories260k-f32.gguf")] {
        let checkpoint = Checkpoint::open(&file).unwrap();
        let mut backend = CandleBackend::load(&checkpoint, &LoadOptions::new(Arc::clone(&POOL))).unwrap();
        backend.open(SeqId(0), &[]).unwrap();
        let (mut token, mut text) = (1, String::new());
        for position in 0..200 {
            let logits = backend.forward(&[run(SeqId(0), &[token], position)]).unwrap();
            let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
            if best == 1 || best == 2 {
                break;
            }
            text += &pieces[best];
            token = best as u32;
        }
        assert!(text.len() > 400, "{text}");
        assert_eq!(
            text.trim(),
            expected.trim().chars().take(text.trim().chars().count()).collect::<String>()
        );
    }
}
