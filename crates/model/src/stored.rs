//! `StoredTensor`: a tensor as a file holds it, of whichever format, and the `StoredType`s that it may have.
//!
//! Wider than [`DType`]: a file may hold types that no backend runs (integers, IQ quantisations). They are known by
//! size, so that the file can be checked and listed, and refused by name where they are loaded.

use std::ops::Range;

use crate::DType;

/// Tensors in a checkpoint. The largest in use have about a thousand in GGUF and a hundred thousand in safetensors.
pub(crate) const MAX_TENSORS: usize = 1 << 17;
/// Bytes of a tensor's name. ggml itself allows 63; the longest in safetensors have about a hundred.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// A tensor of a file: what it is and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    /// Its name.
    pub(crate) name: Box<str>,
    /// Its element type.
    pub(crate) kind: &'static StoredType,
    /// Its dimensions, outermost first.
    pub(crate) shape: Box<[usize]>,
    /// Its bytes, counted from the start of the file.
    pub(crate) range: Range<usize>,
}

/// A name from a file, shortened and escaped so that it is safe in a message.
pub(crate) fn shown(name: &str) -> String {
    const MAX: usize = 80;
    match name.char_indices().nth(MAX) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// How a tensor is stored: name and block geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredType {
    /// As the format's own documents write it.
    pub(crate) name: &'static str,
    /// Elements in a block.
    pub(crate) block_len: usize,
    /// Bytes of a block.
    pub(crate) block_bytes: usize,
    /// The type that backends run, if they do.
    pub(crate) dtype: Option<DType>,
}

const fn runs(name: &'static str, dtype: DType) -> StoredType {
    StoredType { name, block_len: dtype.block_len(), block_bytes: dtype.block_bytes(), dtype: Some(dtype) }
}

const fn known(name: &'static str, block_len: usize, block_bytes: usize) -> StoredType {
    StoredType { name, block_len, block_bytes, dtype: None }
}

/// ggml's types by its own numbers.
static GGML: [(u32, StoredType); 33] = [
    (0, runs("F32", DType::F32)),
    (1, runs("F16", DType::F16)),
    (2, runs("Q4_0", DType::Q4_0)),
    (3, runs("Q4_1", DType::Q4_1)),
    (6, runs("Q5_0", DType::Q5_0)),
    (7, runs("Q5_1", DType::Q5_1)),
    (8, runs("Q8_0", DType::Q8_0)),
    (9, known("Q8_1", 32, 36)),
    (10, runs("Q2_K", DType::Q2K)),
    (11, runs("Q3_K", DType::Q3K)),
    (12, runs("Q4_K", DType::Q4K)),
    (13, runs("Q5_K", DType::Q5K)),
    (14, runs("Q6_K", DType::Q6K)),
    (15, known("Q8_K", 256, 292)),
    (16, known("IQ2_XXS", 256, 66)),
    (17, known("IQ2_XS", 256, 74)),
    (18, known("IQ3_XXS", 256, 98)),
    (19, known("IQ1_S", 256, 50)),
    (20, known("IQ4_NL", 32, 18)),
    (21, known("IQ3_S", 256, 110)),
    (22, known("IQ2_S", 256, 82)),
    (23, known("IQ4_XS", 256, 136)),
    (24, known("I8", 1, 1)),
    (25, known("I16", 1, 2)),
    (26, known("I32", 1, 4)),
    (27, known("I64", 1, 8)),
    (28, known("F64", 1, 8)),
    (29, known("IQ1_M", 256, 56)),
    (30, runs("BF16", DType::BF16)),
    (34, known("TQ1_0", 256, 54)),
    (35, known("TQ2_0", 256, 66)),
    (39, runs("MXFP4", DType::Mxfp4)),
    (40, known("NVFP4", 64, 36)),
];

/// The types of safetensors.
static SAFETENSORS: [StoredType; 17] = [
    runs("F32", DType::F32),
    runs("F16", DType::F16),
    runs("BF16", DType::BF16),
    known("F64", 1, 8),
    known("I64", 1, 8),
    known("I32", 1, 4),
    known("I16", 1, 2),
    known("I8", 1, 1),
    known("U64", 1, 8),
    known("U32", 1, 4),
    known("U16", 1, 2),
    known("U8", 1, 1),
    known("BOOL", 1, 1),
    known("F8_E4M3", 1, 1),
    known("F8_E5M2", 1, 1),
    known("F8_E8M0", 1, 1),
    known("C64", 1, 8),
];

impl StoredType {
    /// The type with ggml's number `number` (`enum ggml_type` of ggml.h).
    pub(crate) fn from_ggml(number: u32) -> Option<&'static Self> {
        GGML.iter().find(|(known, _)| *known == number).map(|(_, kind)| kind)
    }

    /// ggml's number for a type that backends run; `None` for what GGUF cannot hold.
    pub(crate) fn ggml_number(dtype: DType) -> Option<u32> {
        GGML.iter().find(|(_, kind)| kind.dtype == Some(dtype)).map(|(number, _)| *number)
    }

    /// The type that a safetensors header calls `name`.
    pub(crate) fn from_safetensors(name: &str) -> Option<&'static Self> {
        SAFETENSORS.iter().find(|kind| kind.name == name)
    }

    /// Bytes of a tensor of this shape, outermost dimension first; `None` when the last dimension is not a whole number
    /// of blocks or the product overflows.
    pub(crate) fn bytes(&self, shape: &[usize]) -> Option<usize> {
        let cols = shape.last().copied().unwrap_or(1);
        if !cols.is_multiple_of(self.block_len) {
            return None;
        }
        // Elements must be countable too: `parameters()` and every backend multiply them out.
        shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        let rows =
            shape[..shape.len().saturating_sub(1)].iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
        (cols / self.block_len).checked_mul(self.block_bytes)?.checked_mul(rows)
    }
}

/// Checks what no tensor can see by itself: that names are unique, and that no two tensors share bytes.
///
/// # Errors
/// A sentence that names both, and where the second one lies.
pub(crate) fn check_table(tensors: &[StoredTensor]) -> Result<(), (usize, String)> {
    let mut order: Vec<&StoredTensor> = tensors.iter().collect();
    order.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = order.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err((pair[1].range.start, format!("tensor {} occurs twice", shown(&pair[0].name))));
    }
    order.sort_unstable_by_key(|tensor| (tensor.range.start, tensor.range.end));
    match order.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        Some(pair) => {
            let (before, after) = (shown(&pair[0].name), shown(&pair[1].name));
            Err((pair[1].range.start, format!("tensors {before} and {after} overlap")))
        }
        None => Ok(()),
    }
}
