//! The architecture goldens on MLX's CPU library, in f32.

#![allow(dead_code)] // Each test binary uses a part of it.

#[path = "../../../backend-candle/tests/support/golden.rs"]
mod golden;

use std::path::Path;
use std::sync::Arc;

use perch_backend_mlx::{DeviceKind, Float, LoadError, LoadOptions, MlxBackend};
use perch_model::Checkpoint;

pub(crate) use golden::Golden;

/// Exact arithmetic, wherever the tests run.
pub(crate) fn exact() -> LoadOptions {
    LoadOptions { device: DeviceKind::Cpu, float: Some(Float::F32), ..LoadOptions::default() }
}

impl Golden {
    /// The model of `file`.
    pub(crate) fn load(&self, file: &Path) -> Result<MlxBackend, LoadError> {
        let checkpoint = Arc::new(Checkpoint::open(file).unwrap());
        MlxBackend::load(checkpoint, LoadOptions { context_length: self.context, ..exact() })
    }
}
