//! What MLX finds on this machine, and its memory.

use std::ffi::CStr;

use mlx_rs::memory as mlx;

use crate::thread;

/// Buffers that MLX may keep for reuse. Without a bound it keeps all it ever needed.
const CACHE_LIMIT: usize = 256 << 20;

/// The GPU that MLX computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// What its driver calls it, e.g. `applegpu_g15s`.
    pub name: String,
    /// Bytes that Metal recommends to use at most.
    pub working_set: u64,
}

/// The GPU; `None` where MLX has only its CPU library.
pub fn gpu() -> Option<Gpu> {
    thread::run(|| {
        let mut available = false;
        // SAFETY: the call writes one bool.
        let asked = unsafe { mlx_sys::mlx_metal_is_available(&mut available) };
        (asked == 0 && available).then(describe)
    })
    .ok()
    .flatten()
}

/// Bytes of MLX's arrays, and of the buffers that it keeps for reuse.
pub fn memory() -> (u64, u64) {
    let bytes = |found: mlx_rs::error::Result<usize>| found.unwrap_or(0) as u64;
    thread::run(move || (bytes(mlx::active_memory()), bytes(mlx::cache_memory()))).unwrap_or_default()
}

/// Readies the thread before its first job. The first call has MLX report errors in place of ending the process.
pub(crate) fn prepare() {
    if let Err(error) = mlx::set_cache_limit(CACHE_LIMIT) {
        tracing::warn!("MLX keeps its buffers: {}", error.what());
    }
}

/// Keeps MLX's arrays below `bytes`: what goes beyond waits for others to end, and fails if they do not.
pub(crate) fn limit(bytes: u64) {
    if let Err(error) = mlx::set_memory_limit(usize::try_from(bytes).unwrap_or(usize::MAX)) {
        tracing::warn!("MLX has no memory limit: {}", error.what());
    }
}

/// Gives buffers that nobody uses back to the system.
pub(crate) fn release() {
    if let Err(error) = mlx::clear_cache() {
        tracing::warn!("MLX keeps its buffers: {}", error.what());
    }
}

/// The first GPU's name and recommended working set.
fn describe() -> Gpu {
    // SAFETY: the handles are made and freed here; the text belongs to `info` and is copied before it is freed.
    unsafe {
        let device = mlx_sys::mlx_device_new_type(mlx_sys::mlx_device_type__MLX_GPU, 0);
        let mut info = mlx_sys::mlx_device_info_new();
        let asked = mlx_sys::mlx_device_info_get(&mut info, device);
        let (mut text, mut size) = (std::ptr::null(), 0);
        let mut gpu = Gpu { name: "GPU".to_owned(), working_set: 0 };
        if asked == 0 {
            if mlx_sys::mlx_device_info_get_string(&mut text, info, c"architecture".as_ptr()) == 0
                && !text.is_null()
            {
                gpu.name = CStr::from_ptr(text).to_string_lossy().into_owned();
            }
            let key = c"max_recommended_working_set_size".as_ptr();
            if mlx_sys::mlx_device_info_get_size(&mut size, info, key) == 0 {
                gpu.working_set = size as u64;
            }
        }
        mlx_sys::mlx_device_info_free(info);
        mlx_sys::mlx_device_free(device);
        gpu
    }
}
