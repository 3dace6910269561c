//! Prints prefill and decode speed of a model: `cargo run --release -p perch-backend-candle --example speed -- FILE
//! [THREADS]`. Tokens are arbitrary, so a file with random weights does.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perch_backend_candle::{CandleBackend, LoadOptions, Pool};
use perch_engine::{Backend, Run, SeqId, Wanted};
use perch_model::Checkpoint;

/// Tokens of a prompt, and of a chunk of a longer one.
const PROMPT: usize = 512;
/// Tokens decoded for one figure.
const DECODED: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: speed FILE [THREADS]")?;
    let threads = args.next().map_or(Ok(2), |threads| threads.parse())?;
    let begun = Instant::now();
    let mut backend =
        CandleBackend::load(&Checkpoint::open(&file)?, &LoadOptions::new(Arc::new(Pool::new(threads))))?;
    println!("load          {:8.1} ms", millis(begun.elapsed()));
    for round in 0..3 {
        let seq = SeqId(round);
        backend.open(seq, &[])?;
        let prefill = advance(&mut backend, seq, 0, PROMPT)?;
        println!("prefill {PROMPT}   {:8.1} t/s", PROMPT as f64 / prefill.as_secs_f64());
        for depth in [128, 1024, 4096] {
            fill(&mut backend, seq, depth)?;
            let mut steps = Vec::new();
            for position in depth..depth + DECODED {
                steps.push(advance(&mut backend, seq, position, 1)?);
            }
            steps.sort();
            let (median, best) = (millis(steps[DECODED / 2]), millis(steps[0]));
            println!("decode {depth:6} {:8.1} t/s  {median:.2} ms, best {best:.2} ms", 1e3 / median);
        }
        let batch = together(&mut backend, seq)?;
        println!("16 streams    {:8.1} t/s", 16.0 / batch.as_secs_f64());
        backend.close(seq);
    }
    Ok(())
}

/// Runs `count` tokens of `seq` from `position` on.
fn advance(
    backend: &mut CandleBackend,
    seq: SeqId,
    position: usize,
    count: usize,
) -> Result<Duration, Box<dyn Error>> {
    let tokens: Vec<u32> = (position..position + count).map(|i| (i * 7919 % 30_000) as u32).collect();
    let begun = Instant::now();
    let logits = backend.forward(&[Run { seq, tokens: &tokens, position, wanted: Wanted::Last }])?;
    std::hint::black_box(logits);
    Ok(begun.elapsed())
}

/// Brings `seq` to `depth` tokens.
fn fill(backend: &mut CandleBackend, seq: SeqId, depth: usize) -> Result<(), Box<dyn Error>> {
    backend.truncate(seq, 128)?;
    for position in (128..depth).step_by(PROMPT) {
        advance(backend, seq, position, PROMPT.min(depth - position))?;
    }
    Ok(())
}

/// One step of 16 forks of `seq`, each at depth 128.
fn together(backend: &mut CandleBackend, seq: SeqId) -> Result<Duration, Box<dyn Error>> {
    backend.truncate(seq, 128)?;
    let seqs: Vec<SeqId> = (100..116).map(SeqId).collect();
    seqs.iter().try_for_each(|to| backend.fork(seq, *to))?;
    let mut best = Duration::MAX;
    for position in 128..136 {
        let runs = seqs.iter().map(|&seq| Run { seq, tokens: &[17], position, wanted: Wanted::Last });
        let runs: Vec<Run<'_>> = runs.collect();
        let begun = Instant::now();
        std::hint::black_box(backend.forward(&runs)?);
        best = best.min(begun.elapsed());
    }
    seqs.iter().for_each(|seq| backend.close(*seq));
    Ok(best)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
