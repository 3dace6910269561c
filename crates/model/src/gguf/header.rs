//! Reads a GGUF header: magic, version, counts, metadata.
//!
//! Every count is checked against the bytes that are left before anything is made of it, and against a limit well above
//! any real model, so that a header costs at most [`MAX_METADATA_BYTES`] of reading and a few megabytes of memory.
//! Layout: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::cursor::{Cursor, Damage};
use super::metadata::Slot;
use super::value::ValueType;
use crate::stored::shown;

/// Keys in a file. Real files have fewer than a hundred.
const MAX_KEYS: u64 = 16_384;
/// Bytes of metadata. A vocabulary of 262,144 tokens with its merges takes 17 MB.
const MAX_METADATA_BYTES: usize = 256 << 20;
/// Items of one array. The longest in use are merge lists of half a million.
const MAX_ARRAY: u64 = 1 << 21;
/// Bytes of a key. GGUF allows 65,535; real ones have less than 64.
const MAX_KEY_BYTES: usize = 1024;
/// Arrays within arrays. GGUF allows them without a limit; no model uses them.
const MAX_DEPTH: usize = 4;

/// What stands before the metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    /// How many tensors the file says it has.
    pub(crate) tensors: u64,
    /// How many keys the file says it has.
    pub(crate) keys: u64,
}

/// Reads magic, version and counts.
pub(crate) fn read_header(cursor: &mut Cursor<'_>) -> Result<Header, Damage> {
    let magic = cursor.take(4, "the magic number")?;
    if magic != b"GGUF" {
        return Cursor::<'_>::damage(
            0,
            format!("is not a GGUF file: it begins with {}", magic.escape_ascii()),
        );
    }
    let version = cursor.u32("the version")?;
    match version {
        2 | 3 => {}
        1 => return Cursor::damage(4, "is GGUF version 1, which is not supported: convert the model again"),
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Cursor::damage(4, "is a big-endian GGUF file, which is not supported");
        }
        _ => return Cursor::damage(4, format!("is GGUF version {version}; versions 2 and 3 are supported")),
    }
    let tensors = cursor.u64("the tensor count")?;
    let keys = cursor.u64("the metadata count")?;
    Ok(Header { tensors, keys })
}

/// Reads `count` keys with their values.
pub(crate) fn read_metadata(cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<Box<str>, Slot>, Damage> {
    let start = cursor.offset();
    // The shortest entry is a key without a character (8), a type (4) and a one-byte value.
    if count > MAX_KEYS || count.saturating_mul(13) > cursor.left() as u64 {
        return Cursor::damage(16, format!("claims {count} metadata keys, more than it can hold"));
    }
    let mut slots = BTreeMap::new();
    for _ in 0..count {
        let at = cursor.offset();
        let key = cursor.str("a metadata key")?;
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Cursor::damage(at, format!("a metadata key has {} bytes", key.len()));
        }
        let number = cursor.u32("a value type")?;
        let slot = read_value(cursor, key, number)?;
        if cursor.offset() - start > MAX_METADATA_BYTES {
            return Cursor::damage(at, format!("the metadata are longer than {MAX_METADATA_BYTES} bytes"));
        }
        match slots.entry(key.into()) {
            Entry::Vacant(vacant) => vacant.insert(slot),
            Entry::Occupied(_) => {
                return Cursor::damage(at, format!("metadata key {} occurs twice", shown(key)));
            }
        };
    }
    Ok(slots)
}

fn value_type(number: u32, key: &str, at: usize) -> Result<ValueType, Damage> {
    match ValueType::from_number(number) {
        Some(kind) => Ok(kind),
        None => Cursor::damage(at, format!("metadata key {} has unknown value type {number}", shown(key))),
    }
}

fn read_value(cursor: &mut Cursor<'_>, key: &str, number: u32) -> Result<Slot, Damage> {
    let kind = value_type(number, key, cursor.offset() - 4)?;
    match kind {
        ValueType::String => {
            let text = cursor.str("a string value")?;
            Ok(Slot::String(cursor.offset() - text.len()..cursor.offset()))
        }
        ValueType::Array => read_array(cursor, key, 1),
        _ => {
            let start = cursor.offset();
            let bytes = cursor.take(kind.size().unwrap_or(0) as u64, "a value")?;
            if kind == ValueType::Bool && bytes[0] > 1 {
                return Cursor::damage(
                    start,
                    format!("metadata key {} is neither true nor false", shown(key)),
                );
            }
            Ok(Slot::Scalar(kind, start..cursor.offset()))
        }
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Slot, Damage> {
    let at = cursor.offset();
    if depth > MAX_DEPTH {
        return Cursor::damage(at, format!("metadata key {} nests arrays too deeply", shown(key)));
    }
    let of = cursor.u32("an array's type")?;
    let of = value_type(of, key, at)?;
    let count = cursor.u64("an array's length")?;
    // Strings are at least their own length (8), arrays their type and length (12).
    let least = of.size().unwrap_or(if of == ValueType::String { 8 } else { 12 });
    if count > MAX_ARRAY || count.saturating_mul(least as u64) > cursor.left() as u64 {
        return Cursor::damage(
            at,
            format!(
                "metadata key {} claims an array of {count} values of type {of:?}, more than it can hold",
                shown(key)
            ),
        );
    }
    let start = cursor.offset();
    match of {
        ValueType::String => {
            for _ in 0..count {
                cursor.str("a string of an array")?;
            }
        }
        ValueType::Array => {
            for _ in 0..count {
                read_array(cursor, key, depth + 1)?;
            }
        }
        _ => {
            cursor.take(count * least as u64, "an array")?;
        }
    }
    Ok(Slot::Array { of, count: count as usize, items: start..cursor.offset() })
}
