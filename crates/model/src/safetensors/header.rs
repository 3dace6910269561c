//! Reads the header of a safetensors file: the length of some JSON, and the JSON, which says what lies where.
//!
//! Invariants of what it returns: names are unique, sizes agree with shapes and types, every range is inside the file
//! and disjoint from all others. The JSON is parsed straight into the table; its size is bounded, and so is the table's.
//! Layout: <https://huggingface.co/docs/safetensors>.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::ModelError;
use crate::map::MappedFile;
use crate::stored::{MAX_NAME_BYTES, MAX_TENSORS, StoredTensor, StoredType, check_table, shown};

/// Bytes of a header. A tensor takes about 100 of them.
const MAX_HEADER_BYTES: usize = 16 << 20;
/// Dimensions of a tensor. Convolutions have five at most.
const MAX_DIMS: usize = 8;

/// The tensors of `file`, in the order of its header.
pub(crate) fn read_file(file: &MappedFile) -> Result<Vec<StoredTensor>, ModelError> {
    read(file.bytes()).map_err(|reason| file.invalid(reason))
}

fn read(bytes: &[u8]) -> Result<Vec<StoredTensor>, String> {
    let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
        return Err("is not a safetensors file: it is shorter than 8 bytes".into());
    };
    let len = u64::from_le_bytes(*len);
    let header = match usize::try_from(len) {
        Ok(len) if len <= rest.len() && len <= MAX_HEADER_BYTES => &rest[..len],
        _ => {
            return Err(format!(
                "is not a safetensors file, or incomplete: it claims a header of {len} bytes, {} bytes follow and \
                 {MAX_HEADER_BYTES} are the limit",
                rest.len()
            ));
        }
    };
    let data = &rest[header.len()..];
    let table: Table =
        serde_json::from_slice(header).map_err(|error| format!("the header is wrong: {error}"))?;
    let mut tensors = table.0;
    for tensor in &mut tensors {
        if tensor.range.end > data.len() {
            return Err(format!(
                "tensor {} ends at byte {} of the data, but there are {}: the file is incomplete, download it again",
                shown(&tensor.name),
                tensor.range.end,
                data.len()
            ));
        }
        let start = 8 + header.len();
        tensor.range = start + tensor.range.start..start + tensor.range.end;
    }
    check_table(&tensors).map_err(|(_, reason)| reason)?;
    Ok(tensors)
}

/// The header's object; ranges are relative to the data.
struct Table(Vec<StoredTensor>);

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor)
    }
}

struct TableVisitor;

impl<'de> Visitor<'de> for TableVisitor {
    type Value = Table;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with an entry for each tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Table, A::Error> {
        let mut tensors = Vec::new();
        while let Some(Text(name)) = entries.next_key()? {
            if name == "__metadata__" {
                entries.next_value::<IgnoredAny>()?;
                continue;
            }
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(A::Error::custom(format!("a tensor's name has {} bytes", name.len())));
            }
            let info: Info<'_> = entries.next_value()?;
            let tensor = info.check(&name).map_err(A::Error::custom)?;
            if tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            tensors.push(tensor);
        }
        Ok(Table(tensors))
    }
}

#[derive(serde::Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    dtype: Text<'a>,
    shape: Shape,
    data_offsets: (usize, usize),
}

impl Info<'_> {
    fn check(self, name: &str) -> Result<StoredTensor, String> {
        let Some(kind) = StoredType::from_safetensors(&self.dtype.0) else {
            return Err(format!("tensor {} has unknown type {}", shown(name), shown(&self.dtype.0)));
        };
        let shape = &self.shape.0;
        let (start, end) = self.data_offsets;
        match kind.bytes(shape) {
            Some(bytes) if start.checked_add(bytes) == Some(end) => {}
            _ => {
                return Err(format!(
                    "tensor {} of type {} and shape {shape:?} cannot lie at {start}..{end}",
                    shown(name),
                    kind.name
                ));
            }
        }
        Ok(StoredTensor { name: name.into(), kind, shape: shape.as_slice().into(), range: start..end })
    }
}

/// A string that is only copied if it has escapes.
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// Up to [`MAX_DIMS`] dimensions.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ShapeVisitor;
        impl<'de> Visitor<'de> for ShapeVisitor {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::with_capacity(4);
                while let Some(dim) = items.next_element()? {
                    if shape.len() == MAX_DIMS {
                        return Err(A::Error::custom(format!("more than {MAX_DIMS} dimensions")));
                    }
                    shape.push(dim);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(ShapeVisitor)
    }
}
