//! What the engine adds to a model's own time: sampling one token of a vocabulary of 151,936 (Qwen's), and the
//! bookkeeping of one step of 32 streams. `cargo bench -p perch-engine`.

use std::hint::black_box;
use std::time::Instant;

use perch_engine::testing::{Driver, FakeBackend, FakeModel, Picker, Probe};
use perch_engine::{EngineConfig, GenerateRequest, Limits, Sampling};

const VOCAB: usize = 151_936;
const TOKENS: usize = 300;

fn main() {
    sampling();
    bookkeeping();
}

/// Steps of 32 greedy streams over the fake model, whose own share (hashing 300 tokens per stream) is included.
fn bookkeeping() {
    let limits = Limits { vocab_size: 8, ..FakeModel::default().limits };
    let backend = FakeBackend::new(FakeModel { limits, ..FakeModel::default() }, Probe::default());
    let mut driver = Driver::new(backend, EngineConfig::default());
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let _streams: Vec<_> = (0..32)
        .filter_map(|kind| {
            let request = GenerateRequest {
                sampling: greedy.clone(),
                ..GenerateRequest::new(vec![kind % 8; 100], 400)
            };
            driver.submit(request).ok()
        })
        .collect();
    for _ in 0..100 {
        driver.step().expect("no step fails");
    }
    let began = Instant::now();
    for _ in 0..200 {
        driver.step().expect("no step fails");
    }
    println!("{:28} {:7.1} µs mean", "a step of 32 streams", began.elapsed().as_secs_f64() * 1e6 / 200.0);
}

fn sampling() {
    let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
    let chat = Sampling { temperature: 0.7, top_k: 40, top_p: 0.95, ..Sampling::default() };
    let cases = [
        ("greedy", greedy, None),
        ("top_k 40, top_p 0.95", chat.clone(), None),
        (
            "the same with penalties",
            Sampling { repetition_penalty: 1.1, presence_penalty: 0.5, ..chat.clone() },
            None,
        ),
        ("the same with 20 logprobs", chat, Some(20)),
        ("temperature 1", Sampling::default(), None),
        ("top_p 0.9", Sampling { top_p: 0.9, ..Sampling::default() }, None),
        ("min_p 0.05", Sampling { min_p: 0.05, ..Sampling::default() }, None),
    ];
    for (name, sampling, logprobs) in cases {
        let prompt: Vec<u32> = (0..2000).collect();
        let mut picker = Picker::new(Sampling { seed: Some(1), ..sampling }, &prompt, logprobs);
        let rows: Vec<Vec<f32>> = (0..8).map(row).collect();
        let mut best = f64::MAX;
        let mut sum = 0.0;
        for i in 0..TOKENS {
            let mut row = rows[i % rows.len()].clone();
            let began = Instant::now();
            black_box(picker.pick(&mut row));
            let us = began.elapsed().as_secs_f64() * 1e6;
            best = best.min(us);
            sum += us;
        }
        println!("{name:28} {:7.1} µs mean, {best:7.1} µs best", sum / TOKENS as f64);
    }
}

/// Logits shaped like a language model's: roughly normal, with a few far above.
fn row(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut row: Vec<f32> = (0..VOCAB).map(|_| (0..6).map(|_| uniform()).sum::<f32>() * 3.0 - 12.0).collect();
    for i in 0..30 {
        row[(uniform() * VOCAB as f32) as usize] = 10.0 + i as f32 * 0.3;
    }
    row
}
