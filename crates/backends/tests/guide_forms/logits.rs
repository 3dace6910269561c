//! The forms' logits, on Perch's own kernels.

use std::sync::Arc;

use perch_backend_candle::{CandleBackend, LoadOptions, Pool};
use perch_engine::{Backend, Run, SeqId, Wanted};
use perch_model::Checkpoint;
use perch_model::gguf::Metadata;

use crate::forms::{self, Form};
use crate::gguf;

const PROMPT: &str =
    "<|im_start|>user\nWhich port does Perch use?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
const ANSWER: usize = 24;

#[test]
fn all_forms_of_the_weights_agree_on_a_text() {
    let embedded = Checkpoint::open(gguf()).unwrap();
    let prompt = encode(embedded.gguf_metadata().unwrap(), PROMPT);
    let mut model = load(&embedded);
    let text = greedy(&mut model, &prompt);
    let tokens: Vec<u32> = prompt.iter().chain(&text).copied().collect();
    let expected = logits(&mut model, &tokens);
    let most = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);

    let folder = tempfile::tempdir().unwrap();
    // The largest distance of a logit, as a share of the largest logit, and the share of positions where the likeliest token
    // is the same, also within the question, of which the model has learnt nothing: exact but for the rounding of activations,
    // then of weights.
    for (form, distance, agreement) in [
        (Form::F32, 0.025, 0.93),
        (Form::Bf16, 0.03, 0.93),
        (Form::Mlx(8), 0.05, 0.9),
        (Form::Mlx(4), 0.75, 0.6),
    ] {
        let path = folder.path().join(format!("{form:?}"));
        forms::write(&gguf(), &path, form);
        let got = logits(&mut load(&Checkpoint::open(&path).unwrap()), &tokens);
        let far = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / most;
        let same = agree(&got, &expected, tokens.len());
        assert!(far <= distance && same >= agreement, "{form:?}: {far} apart, {same} alike");
    }
}

fn load(checkpoint: &Checkpoint) -> CandleBackend {
    CandleBackend::load(checkpoint, &LoadOptions::new(Arc::new(Pool::new(2)))).unwrap()
}

fn greedy(model: &mut CandleBackend, prompt: &[u32]) -> Vec<u32> {
    let seq = SeqId(1);
    model.open(seq, &[]).unwrap();
    let (mut tokens, mut position, mut text) = (prompt.to_vec(), 0, Vec::new());
    while text.len() < ANSWER {
        let run = Run { seq, tokens: &tokens, position, wanted: Wanted::Last };
        let next = likeliest(&model.forward(&[run]).unwrap());
        position += tokens.len();
        tokens = vec![next];
        text.push(next);
    }
    model.close(seq);
    text
}

fn logits(model: &mut CandleBackend, tokens: &[u32]) -> Vec<f32> {
    let seq = SeqId(2);
    model.open(seq, &[]).unwrap();
    let rows = model.forward(&[Run { seq, tokens, position: 0, wanted: Wanted::All }]).unwrap();
    model.close(seq);
    rows
}

fn likeliest(row: &[f32]) -> u32 {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as u32
}

fn agree(a: &[f32], b: &[f32], rows: usize) -> f32 {
    let vocab = a.len() / rows;
    let same = a.chunks(vocab).zip(b.chunks(vocab)).filter(|(a, b)| likeliest(a) == likeliest(b)).count();
    same as f32 / rows as f32
}

/// The text cut into the longest tokens there are: enough to compare models with, though not what BPE makes of it.
fn encode(metadata: &Metadata, text: &str) -> Vec<u32> {
    let vocab: Vec<&str> = metadata.get_strs("tokenizer.ggml.tokens").unwrap().collect();
    let text = text.replace(' ', "Ġ").replace('\n', "Ċ");
    let (mut rest, mut ids) = (text.as_str(), Vec::new());
    while !rest.is_empty() {
        let fits = (0..vocab.len()).filter(|id| rest.starts_with(vocab[*id]));
        let id = fits.max_by_key(|id| vocab[*id].len()).expect("every byte is a token");
        ids.push(id as u32);
        rest = &rest[vocab[id].len()..];
    }
    ids
}
