//! `Device`: where a model runs, and how tensors meet the CPU kernels.
//!
//! Activations are candle tensors, `f32`, contiguous, `[tokens, width]`, on every device, so there is one decoder. On
//! the CPU each operation is one of our own kernels, over the tensors' slices; elsewhere it is candle's. A tensor costs
//! some 0.2 µs more than a slice (measured: 0.5 % of a decoded token at 0.6 B parameters), which is less than a second
//! decoder would cost the reader.

use candle_core::{Result, Storage, Tensor};

use crate::cpu::Cpu;

/// Where a model runs.
#[derive(Debug)]
pub(crate) enum Device {
    /// Our kernels.
    Cpu(Cpu),
    /// Candle's kernels: Metal; and candle's own CPU device, on which tests run the same code.
    Candle(candle_core::Device),
}

impl Device {
    /// A `[rows, width]` tensor of `data`.
    pub(crate) fn tensor(&self, data: Vec<f32>, rows: usize) -> Result<Tensor> {
        let width = data.len().checked_div(rows).unwrap_or(0);
        match self {
            Device::Cpu(_) => Tensor::from_vec(data, (rows, width), &candle_core::Device::Cpu),
            Device::Candle(device) => Tensor::from_vec(data, (rows, width), device),
        }
    }

    /// Rows `rows` of `x`, in that order.
    pub(crate) fn select(&self, x: &Tensor, rows: &[u32]) -> Result<Tensor> {
        let (all, width) = x.dims2()?;
        if rows.len() == all && rows.iter().enumerate().all(|(i, row)| *row as usize == i) {
            return Ok(x.clone());
        }
        match self {
            Device::Cpu(_) => {
                let picked = read([x], |[x]| {
                    let mut out = Vec::with_capacity(rows.len() * width);
                    rows.iter().for_each(|row| out.extend_from_slice(&x[*row as usize * width..][..width]));
                    out
                })?;
                self.tensor(picked, rows.len())
            }
            Device::Candle(device) => x.index_select(&Tensor::new(rows, device)?, 0),
        }
    }
}

/// Calls `f` with the elements of contiguous `f32` tensors on the CPU.
pub(crate) fn read<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices = [&[] as &[f32]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else { candle_core::bail!("the tensor is not on the CPU") };
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("the tensor is not contiguous")
        };
        *slice = &storage.as_slice::<f32>()?[start..end];
    }
    Ok(f(slices))
}

/// Vectors of `lens` floats that `write` fills, without filling them with zeros first: a prompt moves a gigabyte of
/// activations, and clearing them costs as much as writing them.
///
/// # Safety
/// `write` writes every element, and reads none that it has not written.
pub(crate) unsafe fn filled<const N: usize>(
    lens: [usize; N],
    write: impl FnOnce([&mut [f32]; N]),
) -> [Vec<f32>; N] {
    let mut data = lens.map(Vec::<f32>::with_capacity);
    let mut at = data.each_mut().map(|vec| vec.as_mut_ptr()).into_iter().zip(lens);
    // SAFETY: each vector has room for its `len` floats, and by the caller's promise nobody reads what is not written.
    unsafe {
        write(std::array::from_fn(|_| {
            let (pointer, len) = at.next().unwrap_or((std::ptr::dangling_mut(), 0));
            std::slice::from_raw_parts_mut(pointer, len)
        }));
        data.iter_mut().zip(lens).for_each(|(vec, len)| vec.set_len(len));
    }
    data
}
