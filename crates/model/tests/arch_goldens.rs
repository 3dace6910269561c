//! Specs of the golden checkpoints, held against what transformers says of the same checkpoints. That the specs also give
//! transformers' logits is tested where a backend runs them.

mod support;

use perch_model::{Mixer, ModelSpec};
use support::Golden;

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs(), "{what}: {found} is not {expected}");
    }
}

fn windows(spec: &ModelSpec) -> Vec<Option<usize>> {
    let window = |layer: &perch_model::Layer| match &layer.mixer {
        Mixer::Attention(attention) => attention.window,
        _ => panic!("not attention"),
    };
    spec.layers.iter().map(window).collect()
}

fn check_ropes(golden: &Golden, spec: &ModelSpec, tolerance_of: &str) {
    for (kind, index) in [("all", 0), ("full_attention", 0), ("sliding_attention", 1)] {
        let Some((inv_freq, factor)) = golden.rope(kind) else { continue };
        let what = format!("{} {tolerance_of} {kind}", golden.name());
        assert_close(&spec.ropes[index].inv_freq, &inv_freq, &what);
        assert_close(&[spec.ropes[index].factor], &[factor], &what);
    }
}

#[test]
fn every_golden_opens_and_both_formats_mean_the_same_model() {
    let goldens = Golden::all();
    assert!(goldens.len() > 3);
    for golden in goldens {
        let hf = golden.safetensors();
        check_ropes(&golden, &hf, "safetensors");
        let Some(gguf) = golden.gguf() else { continue };
        check_ropes(&golden, &gguf, "gguf");
        assert_eq!(windows(&hf), windows(&gguf), "{}", golden.name());
        assert_eq!(hf.context_length, gguf.context_length, "{}", golden.name());
        assert_eq!(hf.vocab_size, gguf.vocab_size, "{}", golden.name());
        assert_eq!(hf.layers.len(), gguf.layers.len(), "{}", golden.name());
        assert_close(
            &[gguf.embedding.scale, gguf.head.scale],
            &[hf.embedding.scale, hf.head.scale],
            golden.name(),
        );
    }
}
