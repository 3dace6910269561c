//! The architecture goldens on candle.

#![allow(dead_code)] // Each test binary uses a part of it.

mod golden;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use perch_backend_candle::{CandleBackend, DeviceKind, KvDtype, LoadOptions, Pool};
use perch_model::Checkpoint;

pub(crate) use golden::Golden;

/// One pool for all tests of a binary.
pub(crate) static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::new(2)));

impl Golden {
    /// The model of `file` on `device`.
    pub(crate) fn load(&self, file: &Path, device: DeviceKind, kv_dtype: KvDtype) -> CandleBackend {
        let mut options = LoadOptions::new(Arc::clone(&POOL));
        (options.device, options.kv_dtype, options.context_length) = (device, kv_dtype, self.context);
        let checkpoint = Checkpoint::open(file).unwrap();
        CandleBackend::load(&checkpoint, &options)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}
