//! Times the matrix products of a model file, in the order of a forward pass and with nothing between them: what is
//! left of a step's time is attention, norms and the rest.
//!
//! ```text
//! cargo run --release -p perch-backend-candle --example products -- MODEL.gguf [N,N,…] [THREADS]
//! ```
//!
//! Prints, for each number of tokens, the lower quartile of the time of all products of a kind, the weights they read
//! and the bandwidth. As in a prefill, the head sees one token.

use std::time::Instant;

use perch_backend_candle::Pool;
use perch_backend_candle::cpu::matmul::matmul;
use perch_backend_candle::cpu::matrix::Matrix;
use perch_model::{Checkpoint, Ffn, Linear, Mixer, SpecOptions};

/// Products that share an input, and what they are.
struct Step {
    kind: &'static str,
    weights: Vec<Matrix>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: products MODEL [N,N,…] [THREADS]")?;
    let counts = args.next().unwrap_or_else(|| "1,512".into());
    let pool = Pool::new(args.next().map_or(Ok(2), |threads| threads.parse())?);
    let steps = steps(&Checkpoint::open(&file)?)?;
    for n in counts.split(',') {
        time(&pool, &steps, n.parse()?);
    }
    Ok(())
}

/// The dense products of the model, first layer to last.
fn steps(checkpoint: &Checkpoint) -> Result<Vec<Step>, Box<dyn std::error::Error>> {
    let spec = checkpoint.spec(&SpecOptions::default())?;
    let mut steps = Vec::new();
    let mut add = |kind, linears: &[&Linear]| -> Result<(), Box<dyn std::error::Error>> {
        let matrix = |linear: &&Linear| -> Result<Matrix, Box<dyn std::error::Error>> {
            Ok(Matrix::new(checkpoint.load(&linear.weight, None)?)?)
        };
        steps.push(Step { kind, weights: linears.iter().map(matrix).collect::<Result<_, _>>()? });
        Ok(())
    };
    for layer in &spec.layers {
        if let Mixer::Attention(a) = &layer.mixer {
            add("q, k, v", &[&a.q, &a.k, &a.v])?;
            add("o", &[&a.o])?;
        }
        if let Ffn::Dense(mlp) = &layer.ffn {
            let inputs: Vec<&Linear> = mlp.gate.iter().chain([&mlp.up]).collect();
            add("gate, up", &inputs)?;
            add("down", &[&mlp.down])?;
        }
    }
    add("head", &[&spec.head.linear])?;
    Ok(steps)
}

/// Prints the times of one number of tokens.
fn time(pool: &Pool, steps: &[Step], n: usize) {
    const ROUNDS: usize = 12;
    let mut times = vec![Vec::new(); steps.len()];
    for _ in 0..ROUNDS {
        for (step, times) in steps.iter().zip(&mut times) {
            let n = if step.kind == "head" { 1 } else { n };
            let x: Vec<f32> =
                (0..n * step.weights[0].cols()).map(|i| (i * 7919 % 200) as f32 - 99.5).collect();
            let mut outs: Vec<Vec<f32>> = step.weights.iter().map(|w| vec![0.0; n * w.rows()]).collect();
            let mut slices: Vec<&mut [f32]> = outs.iter_mut().map(Vec::as_mut_slice).collect();
            let weights: Vec<&Matrix> = step.weights.iter().collect();
            let start = Instant::now();
            matmul(pool, &weights, &x, n, &mut slices);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let quartile = |times: &[f64]| {
        let mut times = times.to_vec();
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 4]
    };
    let (mut all_time, mut all_bytes) = (0.0, 0.0);
    for kind in ["q, k, v", "o", "gate, up", "down", "head"] {
        let of_kind = || steps.iter().zip(&times).filter(|(step, _)| step.kind == kind);
        let time: f64 = of_kind().map(|(_, times)| quartile(times)).sum();
        let bytes: usize = of_kind().flat_map(|(s, _)| &s.weights).map(|w| w.rows() * w.row_bytes()).sum();
        println!(
            "{n:4} tokens {kind:9} {:9.3} ms {:7.1} MB {:6.1} GB/s",
            time * 1e3,
            bytes as f64 / 1e6,
            bytes as f64 / time / 1e9
        );
        (all_time, all_bytes) = (all_time + time, all_bytes + bytes as f64);
    }
    println!(
        "{n:4} tokens all       {:9.3} ms {:7.1} MB {:6.1} GB/s, {:.1} tokens/s",
        all_time * 1e3,
        all_bytes / 1e6,
        all_bytes / all_time / 1e9,
        n as f64 / all_time
    );
}
