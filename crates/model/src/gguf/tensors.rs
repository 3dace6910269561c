//! Reads the tensor table of a GGUF file: names, shapes, types and places.
//!
//! Invariants of what it returns: names are unique, shapes have one to four non-zero dimensions whose product and size
//! do not overflow, and every range is aligned, inside the file and disjoint from all others.

use super::cursor::{Cursor, Damage};
use super::metadata::Metadata;
use crate::stored::{MAX_NAME_BYTES, MAX_TENSORS, StoredTensor, StoredType, check_table, shown};

const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// Reads the table of `count` tensors and checks it against a file of `file_len` bytes.
pub(crate) fn read_tensors(
    cursor: &mut Cursor<'_>,
    count: u64,
    metadata: &Metadata,
    file_len: usize,
) -> Result<Vec<StoredTensor>, Damage> {
    // The shortest entry: a name's length (8) and a character, the number of dimensions (4), one of them (8), the type
    // (4) and the offset (8).
    if count > MAX_TENSORS as u64 || count.saturating_mul(33) > cursor.left() as u64 {
        return Cursor::damage(8, format!("claims {count} tensors, more than it can hold"));
    }
    let alignment = alignment(metadata)?;
    let mut tensors = Vec::with_capacity(count as usize);
    for _ in 0..count {
        tensors.push(read_tensor(cursor, alignment)?);
    }
    let Some(data) = cursor.offset().checked_next_multiple_of(alignment as usize) else {
        return Cursor::damage(cursor.offset(), "the tensor table ends beyond any file");
    };
    for tensor in &mut tensors {
        place(tensor, data, file_len)?;
    }
    match check_table(&tensors) {
        Ok(()) => Ok(tensors),
        Err((at, reason)) => Cursor::damage(at, reason),
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, Damage> {
    const KEY: &str = "general.alignment";
    if !metadata.has(KEY) {
        return Ok(DEFAULT_ALIGNMENT);
    }
    match metadata.get_u64(KEY) {
        Some(n) if n.is_power_of_two() && n <= MAX_ALIGNMENT => Ok(n),
        other => Cursor::damage(
            0,
            format!("{KEY} is {other:?}, but should be a power of two of at most {MAX_ALIGNMENT}"),
        ),
    }
}

/// Reads one entry. Its range is still relative to the data section and is moved by [`place`].
fn read_tensor(cursor: &mut Cursor<'_>, alignment: u64) -> Result<StoredTensor, Damage> {
    let at = cursor.offset();
    let name = cursor.str("a tensor's name")?;
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Cursor::damage(at, format!("a tensor's name has {} bytes", name.len()));
    }
    let dims = cursor.u32("a tensor's number of dimensions")?;
    if !(1..=4).contains(&dims) {
        return Cursor::damage(
            at,
            format!("tensor {} has {dims} dimensions; 1 to 4 are possible", shown(name)),
        );
    }
    let mut shape = Vec::with_capacity(4);
    for _ in 0..dims {
        match usize::try_from(cursor.u64("a dimension")?) {
            Ok(0) | Err(_) => {
                return Cursor::damage(at, format!("tensor {} has an impossible dimension", shown(name)));
            }
            Ok(dim) => shape.push(dim),
        }
    }
    shape.reverse(); // GGUF writes the innermost dimension first.
    let number = cursor.u32("a tensor's type")?;
    let Some(kind) = StoredType::from_ggml(number) else {
        return Cursor::damage(at, format!("tensor {} has unknown type {number}", shown(name)));
    };
    let offset = cursor.u64("a tensor's offset")?;
    if !offset.is_multiple_of(alignment) {
        return Cursor::damage(
            at,
            format!("tensor {} lies at offset {offset}, which is not a multiple of {alignment}", shown(name)),
        );
    }
    let (Some(bytes), Ok(start)) = (kind.bytes(&shape), usize::try_from(offset)) else {
        return Cursor::damage(
            at,
            format!("tensor {} of type {} cannot have shape {shape:?}", shown(name), kind.name),
        );
    };
    let Some(end) = start.checked_add(bytes) else {
        return Cursor::damage(at, format!("tensor {} ends beyond any file", shown(name)));
    };
    Ok(StoredTensor { name: name.into(), kind, shape: shape.into(), range: start..end })
}

/// Moves the range of a tensor by the start of the data section and checks that the file has it.
fn place(tensor: &mut StoredTensor, data: usize, file_len: usize) -> Result<(), Damage> {
    let range = &mut tensor.range;
    match (range.start.checked_add(data), range.end.checked_add(data)) {
        (Some(start), Some(end)) if end <= file_len => {
            *range = start..end;
            Ok(())
        }
        (_, end) => Cursor::damage(
            file_len,
            format!(
                "tensor {} ends at byte {}, but the file has {file_len}: it is incomplete, download it again",
                shown(&tensor.name),
                end.unwrap_or(usize::MAX)
            ),
        ),
    }
}
