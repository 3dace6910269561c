//! Logits against Hugging Face transformers, for every architecture and format, and against mlx-lm for quantised checkpoints.

#![cfg(feature = "mlx")]

mod support;

use perch_engine::{Backend, Run, SeqId, Wanted};
use support::Golden;

/// What the contract allows in f32.
const TOLERANCE: f32 = 1e-3;

/// Runs `test` on every golden of transformers.
fn for_all(test: impl Fn(&Golden) -> Result<f32, String>) {
    check(&Golden::all(), test);
}

/// Runs `test` on every golden and reports all failures together.
fn check(goldens: &[Golden], test: impl Fn(&Golden) -> Result<f32, String>) {
    let (mut failures, mut worst) = (Vec::new(), 0.0_f32);
    for golden in goldens {
        match test(golden) {
            Ok(distance) => worst = worst.max(distance),
            Err(failure) => failures.push(format!("{}: {failure}", golden.name())),
        }
    }
    println!("largest distance of any logit: {worst:e}");
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_architecture_gives_the_logits_of_transformers() {
    for_all(|golden| {
        let mut worst = 0.0_f32;
        for file in golden.files() {
            let mut backend = golden.load(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            // The whole prompt in one pass, then 20 tokens one by one; and the prompt in pieces.
            for chunk in [golden.prompt, 7] {
                let logits = golden.replay(&mut backend, SeqId(1), chunk);
                let distance = golden.distance(0, &logits);
                if distance > TOLERANCE || logits.len() != golden.logits.len() {
                    return Err(format!("{} in pieces of {chunk} is off by {distance}", file.display()));
                }
                worst = worst.max(distance);
            }
        }
        Ok(worst)
    });
}

#[test]
fn a_ragged_batch_of_five_gives_them_too() {
    for_all(|golden| {
        let vocab = golden.vocab();
        let mut backend = golden.load(&golden.folder).map_err(|error| error.to_string())?;
        // Sequences of the same tokens, each further ahead than the one before, advance in one pass.
        let (lens, steps) = ([0, 1, 13, 32, 47], [13, 1, 6, 9, 3]);
        for (i, len) in lens.into_iter().enumerate() {
            let seq = SeqId(10 + i as u32);
            backend.open(seq, &[]).map_err(|error| error.to_string())?;
            if len > 0 {
                let run = Run { seq, tokens: &golden.tokens[..len], position: 0, wanted: Wanted::None };
                backend.forward(&[run]).map_err(|error| error.to_string())?;
            }
        }
        let runs = lens.into_iter().zip(steps).enumerate().map(|(i, (len, step))| Run {
            seq: SeqId(10 + i as u32),
            tokens: &golden.tokens[len..len + step],
            position: len,
            wanted: if i == 3 { Wanted::Last } else { Wanted::All },
        });
        let logits = backend.forward(&runs.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        let (mut rest, mut worst) = (&logits[..], 0.0_f32);
        for (i, (len, step)) in lens.into_iter().zip(steps).enumerate() {
            let first = if i == 3 { len + step - 1 } else { len };
            let (rows, others) = rest.split_at((len + step - first) * vocab);
            worst = worst.max(golden.distance(first, rows));
            rest = others;
        }
        if worst > TOLERANCE || !rest.is_empty() {
            return Err(format!("off by {worst}, {} numbers too many", rest.len()));
        }
        Ok(worst)
    });
}

#[test]
fn checkpoints_of_mlx_lm_give_its_logits() {
    // 4 and 8 bits, layers of 2 to 8 bits in one model, mxfp4 and nvfp4, stacked experts.
    let goldens = Golden::all_in("mlx-lm");
    assert!(goldens.len() >= 10);
    check(&goldens, |golden| {
        let mut backend = golden.load(&golden.folder).map_err(|error| error.to_string())?;
        let logits = golden.replay(&mut backend, SeqId(1), golden.prompt);
        let again = golden.replay(&mut backend, SeqId(2), 7);
        let distance = golden.distance(0, &logits).max(golden.distance(0, &again));
        println!("{}: {distance:e}", golden.name());
        if distance > TOLERANCE || logits.len() != golden.logits.len() {
            return Err(format!("off by {distance}"));
        }
        Ok(distance)
    });
}
