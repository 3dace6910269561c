//! Making sure of the result: its tensors are near the original's, its text is readable, and it loads.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use perch_backends::Backends;
use perch_engine::EngineConfig;
use perch_model::quant::dequantize_row;
use perch_model::{Checkpoint, DType, SpecOptions, Weight};
use perch_server::{Config, LoadJob, Loader, ModelText};

use super::plan::{Plan, Planned};
use super::write::{floats, size};

/// Tensors that are compared: the first, the last, and some between.
const TENSORS: usize = 6;
/// Rows of each.
const ROWS: usize = 32;
/// KV for the load that shows that it loads.
const KV: u64 = 64 << 20;

/// Compares some rows of some tensors of the file at `path` with the original.
pub(super) fn compare(original: &Checkpoint, path: &Path, plan: &Plan) -> Result<()> {
    let result = Checkpoint::open(path).context("the result cannot be opened")?;
    let step = (plan.tensors.len() / TENSORS).max(1);
    let last = plan.tensors.len().saturating_sub(1);
    for tensor in (0..=last).step_by(step).chain([last]).map(|at| &plan.tensors[at]) {
        let error = difference(original, &result, tensor)?;
        // What each type can be expected to keep, with room for weights that are far from normal.
        let limit = match tensor.dtype {
            DType::F32 | DType::F16 | DType::BF16 => 0.01,
            DType::Q8_0 => 0.05,
            _ => 0.3,
        };
        if error.is_nan() || error > limit {
            bail!(
                "tensor {} differs from the original by {:.1} %: the result was not kept",
                tensor.name,
                error * 100.0
            );
        }
    }
    Ok(())
}

/// The root of the mean square of the difference, over that of the original.
fn difference(original: &Checkpoint, result: &Checkpoint, tensor: &Planned) -> Result<f64> {
    let rows = 0..size(tensor).0.min(ROWS);
    let wanted = floats(original, tensor, rows.clone())?;
    let name = tensor.name.as_str();
    let weight = if tensor.shape.len() > 1 { Weight::span(name, rows) } else { Weight::new(name) };
    let stored = result.load(&weight, None)?;
    let mut values = vec![0.0; wanted.len()];
    dequantize_row(stored.dtype(), stored.bytes(), &mut values);
    let square = |sum: f64, value: f64| sum + value * value;
    let error = wanted.iter().zip(&values).map(|(a, b)| f64::from(a - b)).fold(0.0, square);
    let size = wanted.iter().map(|value| f64::from(*value)).fold(0.0, square);
    Ok(if error == 0.0 { 0.0 } else { (error / size).sqrt() })
}

/// Loads the file at `path` as the server would, and lets it go again.
pub(super) async fn load(path: &Path, config: &Config) -> Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    let spec = checkpoint.spec(&SpecOptions { context: Some(512) }).context("the result cannot be run")?;
    ModelText::open(&checkpoint).context("the result's tokenizer cannot be read")?;
    let engine = EngineConfig { kv_budget_bytes: KV, prefix_cache_bytes: 0, ..EngineConfig::default() };
    let job = LoadJob {
        id: "result".to_owned(),
        checkpoint: Arc::new(checkpoint),
        spec: Arc::new(spec),
        backend: config.pool.backend.clone(),
        quantize: None,
        engine: EngineConfig { context_length: Some(512), ..engine },
    };
    let loaded = Backends::new(None).load(job).await.context("the result cannot be loaded")?;
    loaded.shutdown().await;
    Ok(())
}
