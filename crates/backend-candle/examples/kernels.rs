//! Times the CPU's matrix products, type by type, beside candle's own on the same bytes.
//!
//! ```text
//! cargo run --release -p perch-backend-candle --example kernels -- [types=q4_k,q8_0] [rows=3072] [cols=1024]
//!     [n=1,4,16,512] [threads=2] [rounds=7] [isa=portable] [candle=no]
//! ```
//!
//! Weights are copies of one matrix, more than the caches hold where few rows are multiplied, so that decoding is
//! timed from memory as in a model. The two sides take turns; figures are lower quartiles.

#[allow(dead_code)]
#[path = "../src/cpu/testing.rs"]
mod testing;

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Instant;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module};
use perch_backend_candle::cpu::isa::Isa;
use perch_backend_candle::cpu::matmul::{Product, matmul_grouped};
use perch_backend_candle::cpu::matrix::Matrix;
use perch_backend_candle::cpu::pool::Pool;
use perch_model::{DType, Tensor};
use testing::{Random, random_weights};

/// Bytes of weights to go through in a round of few rows: several times the last-level cache.
const COLD_BYTES: usize = 160 << 20;

const TYPES: [(&str, DType, Option<GgmlDType>); 15] = [
    ("f32", DType::F32, Some(GgmlDType::F32)),
    ("f16", DType::F16, Some(GgmlDType::F16)),
    ("bf16", DType::BF16, Some(GgmlDType::BF16)),
    ("q4_0", DType::Q4_0, Some(GgmlDType::Q4_0)),
    ("q4_1", DType::Q4_1, Some(GgmlDType::Q4_1)),
    ("q5_0", DType::Q5_0, Some(GgmlDType::Q5_0)),
    ("q5_1", DType::Q5_1, Some(GgmlDType::Q5_1)),
    ("q8_0", DType::Q8_0, Some(GgmlDType::Q8_0)),
    ("affine8", DType::Affine8, None),
    ("mxfp4", DType::Mxfp4, None),
    ("q2_k", DType::Q2K, Some(GgmlDType::Q2K)),
    ("q3_k", DType::Q3K, Some(GgmlDType::Q3K)),
    ("q4_k", DType::Q4K, Some(GgmlDType::Q4K)),
    ("q5_k", DType::Q5K, Some(GgmlDType::Q5K)),
    ("q6_k", DType::Q6K, Some(GgmlDType::Q6K)),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let given: HashMap<String, String> = std::env::args()
        .skip(1)
        .filter_map(|arg| arg.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
    let text = |key: &str, default: &str| given.get(key).cloned().unwrap_or_else(|| default.to_owned());
    let number = |key: &str, default: &str| text(key, default).parse::<usize>();
    let (rows, cols) = (number("rows", "3072")?, number("cols", "1024")?);
    let pool = Pool::new(number("threads", "2")?);
    let rounds = number("rounds", "7")?;
    let wanted = text("isa", &format!("{:?}", Isa::best())).to_lowercase();
    let isa = Isa::available().into_iter().find(|isa| format!("{isa:?}").to_lowercase() == wanted);
    let isa = isa.ok_or_else(|| format!("no such level here: {wanted}; there are {:?}", Isa::available()))?;
    let names = text("types", "");
    let counts = text("n", "1,4,16,512").split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;

    println!("{rows} × {cols}, {} threads, {isa:?}", pool.threads());
    println!(
        "{:8} {:>4} {:>10} {:>8} {:>9}   {:>10} {:>7}",
        "type", "n", "µs", "GB/s", "GFLOP/s", "candle µs", "times"
    );
    for (name, dtype, candle) in TYPES {
        if !names.is_empty() && !names.split(',').any(|wanted| wanted == name) {
            continue;
        }
        for n in &counts {
            let case = Case::new(random_weights(dtype, rows, cols, 1), *n)?;
            let candle = candle.filter(|_| text("candle", "yes") != "no").map(|dtype| case.on_candle(dtype));
            let (ours, theirs) = case.time(&pool, isa, candle.transpose()?, rounds)?;
            let work = (2 * rows * cols * n) as f64;
            let bytes = case.weights[0].row_bytes() * rows;
            print!(
                "{name:8} {n:4} {:10.1} {:8.2} {:9.1}",
                ours * 1e6,
                bytes as f64 / ours / 1e9,
                work / ours / 1e9
            );
            match theirs {
                Some(theirs) => println!("   {:10.1} {:7.2}", theirs * 1e6, theirs / ours),
                None => println!(),
            }
        }
    }
    Ok(())
}

/// One type and number of rows.
struct Case {
    tensor: Tensor,
    weights: Vec<Matrix>,
    n: usize,
    x: Vec<f32>,
}

/// Candle's side of a case.
struct Candle {
    weights: Vec<QMatMul>,
    x: candle_core::Tensor,
}

impl Case {
    fn new(tensor: Tensor, n: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let copies = if n <= 16 { COLD_BYTES.div_ceil(tensor.bytes().len()) } else { 1 };
        let copy = |_| {
            let bytes = tensor.bytes().to_vec();
            let copy = Tensor::owned(tensor.dtype(), tensor.rows(), tensor.cols(), bytes);
            Matrix::new(copy.ok_or("a tensor of another size")?)
                .map_err(Into::<Box<dyn std::error::Error>>::into)
        };
        let weights = (0..copies).map(copy).collect::<Result<_, _>>()?;
        let x = Random(2).activations(n, tensor.cols());
        Ok(Self { tensor, weights, n, x })
    }

    fn on_candle(&self, dtype: GgmlDType) -> candle_core::Result<Candle> {
        let shape = (self.tensor.rows(), self.tensor.cols());
        let matrix = || {
            let storage = QStorage::from_data(Cow::Borrowed(self.tensor.bytes()), &Device::Cpu, dtype)?;
            QMatMul::from_arc(QTensor::new(storage, shape)?.into())
        };
        Ok(Candle {
            weights: self.weights.iter().map(|_| matrix()).collect::<candle_core::Result<_>>()?,
            x: candle_core::Tensor::from_slice(&self.x, (self.n, self.tensor.cols()), &Device::Cpu)?,
        })
    }

    /// Seconds for one product: ours and candle's.
    fn time(
        &self,
        pool: &Pool,
        isa: Isa,
        candle: Option<Candle>,
        rounds: usize,
    ) -> candle_core::Result<(f64, Option<f64>)> {
        let mut out = vec![0.0; self.n * self.tensor.rows()];
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..=rounds {
            for (i, weight) in self.weights.iter().enumerate() {
                let start = Instant::now();
                let product = Product { weight, rows: None, out: &mut out };
                matmul_grouped(pool, isa, &self.x, self.n, &mut [product]);
                ours.push(start.elapsed().as_secs_f64());
                if let Some(candle) = &candle {
                    let start = Instant::now();
                    candle.weights[i].forward(&candle.x)?;
                    theirs.push(start.elapsed().as_secs_f64());
                }
            }
        }
        Ok((low(&mut ours), candle.map(|_| low(&mut theirs))))
    }
}

/// The lower quartile: a machine that does other things too only ever adds time.
fn low(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 4]
}
