//! `ContiguousKv`: the KV of a sequence as one key and one value tensor per layer, for candle's attention kernels.
//!
//! Tensors are `[kv_heads, capacity, head_dim]`; the capacity grows by half. Saved blocks and forks are copies, because
//! kernels want a sequence's KV in one piece (`shares_blocks` is false on these devices).

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use perch_engine::BackendError;

use perch_engine::kv::SequenceKv;

/// What the sequences of one model have in common.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Where the tensors lie.
    pub(crate) device: Device,
    /// Their type.
    pub(crate) dtype: DType,
    /// `(kv_heads, head_dim)` of each layer.
    pub(crate) layers: Vec<(usize, usize)>,
    /// Tokens of a saved block.
    pub(crate) block_tokens: usize,
}

/// Keys and values of a layer.
type Pair = [Tensor; 2];

/// The KV of one sequence.
pub(crate) struct ContiguousKv {
    layers: Vec<Pair>,
    capacity: usize,
    len: usize,
}

impl ContiguousKv {
    /// Writes a layer's new keys and values, `[kv_heads, n, head_dim]`, at `position`, and returns all of them up to
    /// the last new one, without those before `first`.
    pub(crate) fn append(
        &self,
        layer: usize,
        new: [Tensor; 2],
        position: usize,
        first: usize,
    ) -> Result<Pair> {
        let [keys, values] = &self.layers[layer];
        let end = position + new[0].dim(1)?;
        let write = |all: &Tensor, new: &Tensor| -> Result<Tensor> {
            all.slice_set(&new.to_dtype(all.dtype())?.contiguous()?, 1, position)?;
            all.narrow(1, first, end - first)
        };
        Ok([write(keys, &new[0])?, write(values, &new[1])?])
    }

    fn empty(shape: &Shape, capacity: usize) -> Result<Vec<Pair>> {
        let new = |&(heads, width): &(usize, usize)| {
            let new = || Tensor::zeros((heads, capacity, width), shape.dtype, &shape.device);
            Ok([new()?, new()?])
        };
        shape.layers.iter().map(new).collect()
    }

    /// The same tokens with room for `capacity`.
    fn with_capacity(&self, shape: &Shape, capacity: usize) -> Result<Self> {
        let layers = Self::empty(shape, capacity)?;
        copy(&self.layers, 0..self.len, (&layers, 0))?;
        Ok(Self { layers, capacity, len: self.len })
    }
}

/// Copies positions `range` of `from` to `at` of `to`.
fn copy(from: &[Pair], range: Range<usize>, (to, at): (&[Pair], usize)) -> Result<()> {
    for (from, to) in from.iter().flatten().zip(to.iter().flatten()) {
        if !range.is_empty() {
            to.slice_set(&from.narrow(1, range.start, range.len())?.contiguous()?, 1, at)?;
        }
    }
    Ok(())
}

/// Candle reports what a device cannot allocate like any other failure, so memory is the likeliest reason here.
fn memory(error: candle_core::Error) -> BackendError {
    BackendError::OutOfMemory(error.to_string())
}

impl SequenceKv for ContiguousKv {
    type Context = Shape;
    type Block = Vec<Pair>;

    fn open(shape: &Shape, prefix: &[&Vec<Pair>]) -> std::result::Result<Self, BackendError> {
        let len = prefix.len() * shape.block_tokens;
        // Never empty: Metal has no buffers without bytes.
        let capacity = len.max(shape.block_tokens);
        let layers = Self::empty(shape, capacity).map_err(memory)?;
        for (i, block) in prefix.iter().enumerate() {
            let at = i * shape.block_tokens;
            copy(block, 0..shape.block_tokens, (&layers, at)).map_err(memory)?;
        }
        Ok(Self { layers, capacity, len })
    }

    fn fork(&self, shape: &Shape) -> std::result::Result<Self, BackendError> {
        self.with_capacity(shape, self.capacity).map_err(memory)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    fn reserve(&mut self, shape: &Shape, extra: usize) -> std::result::Result<(), BackendError> {
        let needed = self.len + extra;
        if needed > self.capacity {
            let capacity = needed.max(self.capacity + self.capacity / 2).next_multiple_of(shape.block_tokens);
            *self = self.with_capacity(shape, capacity).map_err(memory)?;
        }
        Ok(())
    }

    fn save(&self, shape: &Shape, index: usize) -> std::result::Result<Vec<Pair>, BackendError> {
        let block = Self::empty(shape, shape.block_tokens).map_err(memory)?;
        let start = index * shape.block_tokens;
        copy(&self.layers, start..start + shape.block_tokens, (&block, 0)).map_err(memory)?;
        Ok(block)
    }

    fn trim(_: &Shape) {}
}
