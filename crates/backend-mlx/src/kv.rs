//! `ArrayKv`: the KV of a sequence as one key and one value array for each layer, as MLX's attention wants them.
//!
//! Arrays are `[1, kv_heads, capacity, head_dim]`; the capacity grows in steps. Saved blocks are copies: a view would keep the
//! whole array it was cut from in memory. A fork shares the arrays until one of the two writes.

use mlx_rs::error::{Exception, Result};
use mlx_rs::ops::indexing::{TryIndexMutOp, TryIndexOp};
use mlx_rs::ops::{concatenate, zeros_dtype};
use mlx_rs::transforms::async_eval;
use mlx_rs::{Array, Dtype};
use perch_engine::BackendError;
use perch_engine::kv::SequenceKv;

use crate::ops::dim;

/// Tokens of a saved block.
pub(crate) const BLOCK_TOKENS: usize = 32;
/// Tokens that a sequence's arrays grow by at least.
const STEP: usize = 256;

/// What the sequences of one model have in common.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Type of keys and values.
    pub(crate) dtype: Dtype,
    /// `(kv_heads, head_dim)` of each layer.
    pub(crate) layers: Vec<(usize, usize)>,
}

impl Shape {
    /// Bytes of one token, all layers.
    pub(crate) fn bytes_per_token(&self) -> usize {
        let size = if self.dtype == Dtype::Float32 { 4 } else { 2 };
        self.layers.iter().map(|(heads, width)| 2 * heads * width * size).sum()
    }
}

/// Keys and values of a layer.
pub(crate) type Pair = [Array; 2];

/// The KV of one sequence.
pub(crate) struct ArrayKv {
    layers: Vec<Pair>,
    capacity: usize,
    len: usize,
}

impl ArrayKv {
    /// Writes a layer's new keys and values, `[1, kv_heads, n, head_dim]`, at `position`, and returns all of them up to the last
    /// new one, without those before `first`.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        new: [Array; 2],
        position: usize,
        first: usize,
    ) -> Result<Pair> {
        let end = position + new[0].dim(2) as usize;
        let [keys, values] = &mut self.layers[layer];
        let write = |all: &mut Array, new: &Array| -> Result<Array> {
            // The only holder of an array has its memory written in place.
            all.try_index_mut((.., .., dim(position)..dim(end), ..), new)?;
            all.try_index((.., .., dim(first)..dim(end), ..))
        };
        Ok([write(keys, &new[0])?, write(values, &new[1])?])
    }

    /// All arrays, to be computed.
    pub(crate) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.layers.iter().flatten()
    }

    fn empty(shape: &Shape, capacity: usize) -> Result<Vec<Pair>> {
        let new = |&(heads, width): &(usize, usize)| {
            let new = || zeros_dtype(&[1, dim(heads), dim(capacity), dim(width)], shape.dtype);
            Ok([new()?, new()?])
        };
        shape.layers.iter().map(new).collect()
    }

    fn grow(&mut self, shape: &Shape, capacity: usize) -> Result<()> {
        let more = Self::empty(shape, capacity - self.capacity)?;
        for (layer, more) in self.layers.iter_mut().flatten().zip(more.iter().flatten()) {
            *layer = concatenate(&[&*layer, more], 2)?;
        }
        self.capacity = capacity;
        Ok(())
    }
}

fn memory(error: Exception) -> BackendError {
    BackendError::OutOfMemory(error.what().to_owned())
}

impl SequenceKv for ArrayKv {
    type Context = Shape;
    type Block = Vec<Pair>;

    fn open(shape: &Shape, prefix: &[&Vec<Pair>]) -> std::result::Result<Self, BackendError> {
        let len = prefix.len() * BLOCK_TOKENS;
        let capacity = (len + 1).next_multiple_of(STEP);
        let open = || -> Result<Vec<Pair>> {
            let rest = Self::empty(shape, capacity - len)?;
            if prefix.is_empty() {
                return Ok(rest);
            }
            let join = |layer: usize, part: usize, rest: &Array| {
                let parts: Vec<&Array> =
                    prefix.iter().map(|block| &block[layer][part]).chain([rest]).collect();
                concatenate(&parts, 2)
            };
            let layers: Vec<Pair> = rest
                .iter()
                .enumerate()
                .map(|(layer, [keys, values])| Ok([join(layer, 0, keys)?, join(layer, 1, values)?]))
                .collect::<Result<_>>()?;
            // Until it is computed it holds on to blocks that may be forgotten.
            async_eval(layers.iter().flatten())?;
            Ok(layers)
        };
        Ok(Self { layers: open().map_err(memory)?, capacity, len })
    }

    fn fork(&self, _: &Shape) -> std::result::Result<Self, BackendError> {
        Ok(Self { layers: self.layers.clone(), capacity: self.capacity, len: self.len })
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
            self.grow(shape, needed.next_multiple_of(STEP)).map_err(memory)?;
        }
        Ok(())
    }

    fn save(&self, _: &Shape, index: usize) -> std::result::Result<Vec<Pair>, BackendError> {
        let (start, end) = (dim(index * BLOCK_TOKENS), dim((index + 1) * BLOCK_TOKENS));
        let save = || -> Result<Vec<Pair>> {
            let cut = |all: &Array| all.try_index((.., .., start..end, ..))?.contiguous();
            let block: Vec<Pair> = self
                .layers
                .iter()
                .map(|[keys, values]| Ok([cut(keys)?, cut(values)?]))
                .collect::<Result<_>>()?;
            async_eval(block.iter().flatten())?;
            Ok(block)
        };
        save().map_err(memory)
    }

    fn trim(_: &Shape) {
        crate::device::release();
    }
}
