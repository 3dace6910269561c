//! What mlx-rs leaves out, and what every layer writes the same way.

use std::ffi::CStr;

use mlx_rs::error::{Exception, Result};
use mlx_rs::{Array, Dtype, Stream};

/// How quantised matrices are written, see `mlx.core.quantize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    /// `affine`, `mxfp4` or `nvfp4`.
    pub(crate) mode: &'static CStr,
    /// Elements that share a scale.
    pub(crate) group: i32,
    /// Bits of an element.
    pub(crate) bits: i32,
}

/// A quantised matrix, or a stack of them: `[…, rows, cols * bits / 32]` words and `[…, rows, cols / group]` scales.
#[derive(Debug, Clone)]
pub(crate) struct Quantised {
    pub(crate) words: Array,
    pub(crate) scales: Array,
    pub(crate) biases: Option<Array>,
    pub(crate) scheme: Scheme,
}

impl Quantised {
    /// `x · selfᵀ`: `[n, cols]` to `[n, rows]`.
    pub(crate) fn matmul(&self, x: &Array) -> Result<Array> {
        let Scheme { mode, group, bits } = self.scheme;
        let stream = Stream::thread_local_or_default();
        // SAFETY: the handles live through the call.
        raw("quantized_matmul", |out| unsafe {
            mlx_sys::mlx_quantized_matmul(
                out,
                x.as_ptr(),
                self.words.as_ptr(),
                self.scales.as_ptr(),
                handle(self.biases.as_ref()),
                true,
                some(group),
                some(bits),
                mode.as_ptr(),
                stream.as_ref().as_ptr(),
            )
        })
    }

    /// `x · self[expert]ᵀ` for each entry of `experts`, `x` broadcast against it: `[…, 1, cols]` to `[…, 1, rows]`.
    pub(crate) fn gather_matmul(&self, x: &Array, experts: &Array, sorted: bool) -> Result<Array> {
        let Scheme { mode, group, bits } = self.scheme;
        let stream = Stream::thread_local_or_default();
        // SAFETY: the handles live through the call.
        raw("gather_qmm", |out| unsafe {
            mlx_sys::mlx_gather_qmm(
                out,
                x.as_ptr(),
                self.words.as_ptr(),
                self.scales.as_ptr(),
                handle(self.biases.as_ref()),
                handle(None),
                experts.as_ptr(),
                true,
                some(group),
                some(bits),
                mode.as_ptr(),
                sorted,
                stream.as_ref().as_ptr(),
            )
        })
    }

    /// Rows `rows` as floats of type `dtype`: `[n, cols]`.
    pub(crate) fn lookup(&self, rows: &Array, dtype: Dtype) -> Result<Array> {
        let Scheme { mode, group, bits } = self.scheme;
        let words = self.words.take_axis(rows, 0)?;
        let scales = self.scales.take_axis(rows, 0)?;
        let biases = self.biases.as_ref().map(|biases| biases.take_axis(rows, 0)).transpose()?;
        let stream = Stream::thread_local_or_default();
        let wanted = mlx_sys::mlx_optional_dtype { value: dtype.into(), has_value: true };
        // SAFETY: the handles live through the call.
        raw("dequantize", |out| unsafe {
            mlx_sys::mlx_dequantize(
                out,
                words.as_ptr(),
                scales.as_ptr(),
                handle(biases.as_ref()),
                some(group),
                some(bits),
                mode.as_ptr(),
                handle(None),
                wanted,
                stream.as_ref().as_ptr(),
            )
        })
    }
}

/// Calls a function of mlx-c that fills one array.
fn raw(name: &str, call: impl FnOnce(*mut mlx_sys::mlx_array) -> i32) -> Result<Array> {
    // SAFETY: a new handle is empty, and becomes ours whether the call fills it or not.
    let mut handle = unsafe { mlx_sys::mlx_array_new() };
    let status = call(&mut handle);
    // SAFETY: as above.
    let array = unsafe { Array::from_ptr(handle) };
    if status == 0 { Ok(array) } else { Err(Exception::custom(format!("MLX refused {name}"))) }
}

fn handle(array: Option<&Array>) -> mlx_sys::mlx_array {
    // An empty handle has no memory of its own.
    // SAFETY: the call takes nothing.
    array.map_or_else(|| unsafe { mlx_sys::mlx_array_new() }, Array::as_ptr)
}

fn some(value: i32) -> mlx_sys::mlx_optional_int {
    mlx_sys::mlx_optional_int { value, has_value: true }
}

/// A number of type `dtype`. MLX would make its sums and products with arrays of 16 bits wider if it had 32.
pub(crate) fn scalar(value: f32, dtype: Dtype) -> Result<Array> {
    Array::from_f32(value).as_dtype(dtype)
}

/// A size as MLX wants it. Models have none that does not fit, see `perch_model`'s bounds.
pub(crate) fn dim(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

/// `cap * tanh(x / cap)`.
pub(crate) fn softcap(x: &Array, cap: f32) -> Result<Array> {
    let cap = scalar(cap, x.dtype())?;
    mlx_rs::ops::tanh(x.divide(&cap)?)?.multiply(&cap)
}
