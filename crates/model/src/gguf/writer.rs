//! `Writer`: makes a GGUF file (version 3) as a stream: first everything about the tensors, then their bytes in order.
//!
//! Nothing but the metadata and the tensor table is held in memory. What it writes, the reader accepts: the same rules
//! (names, dimensions, alignment) are checked here, and a file is only complete once [`Body::finish`] returned.

use std::collections::HashSet;
use std::io::{self, Write};

use super::metadata::{Metadata, Slot};
use super::value::ValueType;
use crate::DType;
use crate::stored::{MAX_NAME_BYTES, StoredType, shown};

const ALIGNMENT: usize = 32;

/// A metadata value in GGUF's own encoding.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    kind: ValueType,
    /// Type and number of an array's items.
    items: Option<(ValueType, usize)>,
    bytes: Vec<u8>,
}

macro_rules! values {
    ($($type:ty => $kind:ident),* $(,)?) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self { kind: ValueType::$kind, items: None, bytes: value.to_le_bytes().to_vec() }
            }
        }

        impl From<&[$type]> for Value {
            fn from(values: &[$type]) -> Self {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Self { kind: ValueType::Array, items: Some((ValueType::$kind, values.len())), bytes }
            }
        }
    )*};
}

values!(
    u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, u64 => U64, i64 => I64, f32 => F32, f64 => F64,
);

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self { kind: ValueType::Bool, items: None, bytes: vec![value.into()] }
    }
}

impl From<&[bool]> for Value {
    fn from(values: &[bool]) -> Self {
        let bytes = values.iter().map(|value| u8::from(*value)).collect();
        Self { kind: ValueType::Array, items: Some((ValueType::Bool, values.len())), bytes }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(8 + text.len());
        push_str(&mut bytes, text.as_bytes());
        Self { kind: ValueType::String, items: None, bytes }
    }
}

impl From<&[&str]> for Value {
    fn from(texts: &[&str]) -> Self {
        let mut bytes = Vec::new();
        texts.iter().for_each(|text| push_str(&mut bytes, text.as_bytes()));
        Self { kind: ValueType::Array, items: Some((ValueType::String, texts.len())), bytes }
    }
}

fn push_str(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text);
}

/// What a GGUF file is going to hold.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    metadata: Vec<(String, Value)>,
    table: Vec<u8>,
    names: HashSet<String>,
    /// Bytes of each tensor, in order.
    sizes: Vec<usize>,
    data: usize,
}

impl Writer {
    /// A file without metadata and tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metadata value; a key that was set before keeps its place and gets the new value. `general.alignment` is
    /// the writer's own affair and is ignored.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        let value = value.into();
        match self.metadata.iter_mut().find(|(known, _)| known == key) {
            _ if key == "general.alignment" => {}
            Some((_, known)) => *known = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        self
    }

    /// Sets everything that `metadata` holds, bit by bit.
    pub fn copy_metadata(&mut self, metadata: &Metadata) -> &mut Self {
        for key in metadata.keys() {
            let Some((slot, raw)) = metadata.raw(key) else { continue };
            let mut bytes = Vec::with_capacity(8 + raw.len());
            let (kind, items) = match slot {
                Slot::Scalar(kind, _) => (*kind, None),
                Slot::String(_) => (ValueType::String, None),
                Slot::Array { of, count, .. } => (ValueType::Array, Some((*of, *count))),
            };
            match kind {
                ValueType::String => push_str(&mut bytes, raw),
                _ => bytes.extend_from_slice(raw),
            }
            self.set(key, Value { kind, items, bytes });
        }
        self
    }

    /// Adds a tensor to the table; the bytes follow in the same order, to [`Body::write`]. `shape` is given outermost
    /// dimension first.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a name or shape that GGUF cannot hold, a name that was used before, and a
    /// type that GGUF does not have ([`DType::Affine8`]).
    pub fn declare(&mut self, name: &str, dtype: DType, shape: &[usize]) -> io::Result<()> {
        let wrong = |what: &str| {
            let name = shown(name);
            io::Error::new(io::ErrorKind::InvalidInput, format!("tensor {name} of shape {shape:?}: {what}"))
        };
        if name.is_empty() || name.len() > MAX_NAME_BYTES || self.names.contains(name) {
            return Err(wrong("the name is empty, too long or used before"));
        }
        if !(1..=4).contains(&shape.len()) || shape.contains(&0) {
            return Err(wrong("there must be one to four dimensions, none of them zero"));
        }
        let number = StoredType::ggml_number(dtype).ok_or_else(|| wrong("GGUF does not have its type"))?;
        let kind = StoredType::from_ggml(number).ok_or_else(|| wrong("GGUF does not have its type"))?;
        let bytes = kind.bytes(shape).ok_or_else(|| wrong("rows are not whole blocks"))?;
        let end = self.data.checked_add(bytes).and_then(|end| end.checked_next_multiple_of(ALIGNMENT));
        let end = end.ok_or_else(|| wrong("the file would be too long"))?;

        push_str(&mut self.table, name.as_bytes());
        self.table.extend_from_slice(&(shape.len() as u32).to_le_bytes());
        for dim in shape.iter().rev() {
            self.table.extend_from_slice(&(*dim as u64).to_le_bytes());
        }
        self.table.extend_from_slice(&number.to_le_bytes());
        self.table.extend_from_slice(&(self.data as u64).to_le_bytes());
        self.names.insert(name.to_owned());
        self.sizes.push(bytes);
        self.data = end;
        Ok(())
    }

    /// Writes everything up to the data, and goes on with that. `out` should be buffered.
    ///
    /// # Errors
    /// What `out` reports.
    pub fn begin<W: Write>(self, mut out: W) -> io::Result<Body<W>> {
        let mut header = Vec::with_capacity(1024 + self.table.len());
        header.extend_from_slice(b"GGUF");
        header.extend_from_slice(&3u32.to_le_bytes());
        header.extend_from_slice(&(self.sizes.len() as u64).to_le_bytes());
        header.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            push_str(&mut header, key.as_bytes());
            header.extend_from_slice(&(value.kind as u32).to_le_bytes());
            if let Some((of, count)) = value.items {
                header.extend_from_slice(&(of as u32).to_le_bytes());
                header.extend_from_slice(&(count as u64).to_le_bytes());
            }
            header.extend_from_slice(&value.bytes);
        }
        header.extend_from_slice(&self.table);
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&header)?;
        let sizes = self.sizes.into_iter().rev().collect();
        Ok(Body { out, sizes, size: 0, left: 0 })
    }
}

/// The data section of a GGUF file that is being written.
#[derive(Debug)]
pub struct Body<W> {
    out: W,
    /// Sizes of the tensors that were not begun, last first.
    sizes: Vec<usize>,
    /// Bytes of the tensor that was begun last, and how many of them are to come.
    size: usize,
    left: usize,
}

impl<W: Write> Body<W> {
    /// Writes the next bytes: of the tensor that is not complete, or of the next. A tensor may come in any number of
    /// pieces, a piece belongs to one tensor.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for more bytes than the tensor has, and what the output reports.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.left == 0 {
            self.size = self.sizes.pop().unwrap_or(0);
            self.left = self.size;
        }
        if bytes.len() > self.left {
            let message = format!("{} bytes for a tensor that lacks {}", bytes.len(), self.left);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.out.write_all(bytes)?;
        self.left -= bytes.len();
        if self.left == 0 {
            let padding = self.size.next_multiple_of(ALIGNMENT) - self.size;
            self.out.write_all(&[0; ALIGNMENT][..padding])?;
        }
        Ok(())
    }

    /// Flushes, and returns what was written to.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if a tensor lacks bytes, and what the output reports.
    pub fn finish(mut self) -> io::Result<W> {
        if self.left > 0 || !self.sizes.is_empty() {
            let message = format!("{} tensors lack bytes", self.sizes.len() + usize::from(self.left > 0));
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}
