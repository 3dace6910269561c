//! Messages found page by page, where the tree that leads to the pages is broken.
//!
//! Reads SQLite's file format as its documentation has it: leaves of tables, their cells, and the pages that long rows go
//! on in. A row counts only if its checksum is right, so nothing is taken for a message that is none.

use crate::check::crc;

/// Every page that this program writes has this size.
const PAGE: usize = 4096;
/// A page that holds rows of a table.
const LEAF: u8 = 0x0D;
/// Columns of `bodies`.
const COLUMNS: usize = 5;
/// Longest row that is read: no message comes in through a larger body.
const LONGEST: usize = 256 << 20;

/// All whole rows of `bodies` in a file: `seq`, conversation, body.
pub(crate) fn bodies(file: &[u8]) -> Vec<(i64, String, String)> {
    let mut found = Vec::new();
    for page in file.chunks_exact(PAGE).filter(|page| page[0] == LEAF) {
        let cells = usize::from(u16::from_be_bytes([page[3], page[4]]));
        let pointers = page[8..].chunks_exact(2).take(cells);
        let at = pointers.map(|pointer| usize::from(u16::from_be_bytes([pointer[0], pointer[1]])));
        found.extend(at.filter_map(|at| cell(file, page, at)));
    }
    found
}

fn cell(file: &[u8], page: &[u8], at: usize) -> Option<(i64, String, String)> {
    let mut rest = page.get(at..)?;
    let length = usize::try_from(varint(&mut rest)?).ok().filter(|length| *length <= LONGEST)?;
    let seq = varint(&mut rest)?;
    let payload = payload(file, rest, length)?;
    let (conversation, body) = row(&payload)?;
    Some((seq, conversation, body))
}

/// The bytes of a row, those on further pages included.
fn payload(file: &[u8], rest: &[u8], length: usize) -> Option<Vec<u8>> {
    let most = PAGE - 35;
    let local = if length <= most {
        length
    } else {
        let least = (PAGE - 12) * 32 / 255 - 23;
        let fitting = least + (length - least) % (PAGE - 4);
        if fitting <= most { fitting } else { least }
    };
    let mut bytes = rest.get(..local)?.to_vec();
    let mut next = rest.get(local..local + 4).map(number).unwrap_or_default();
    while bytes.len() < length {
        let begin = next.checked_sub(1)?.checked_mul(PAGE)?;
        let page = file.get(begin..begin + PAGE)?;
        next = number(page);
        // Each page adds something, so a circle ends as well.
        bytes.extend_from_slice(&page[4..4 + (length - bytes.len()).min(PAGE - 4)]);
    }
    Some(bytes)
}

fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

/// The conversation and body of a row of `bodies`, if its checksum is right.
fn row(payload: &[u8]) -> Option<(String, String)> {
    let mut header = payload;
    let length = usize::try_from(varint(&mut header)?).ok()?;
    let mut types = payload.get(payload.len() - header.len()..length)?;
    let mut kinds = [0; COLUMNS];
    for kind in &mut kinds {
        *kind = varint(&mut types)?;
    }
    if !types.is_empty() || kinds[0] != 0 {
        return None;
    }
    let mut values = payload.get(length..)?;
    let mut take = |kind: i64| {
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind as usize,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from(kind - 12).ok()? / 2,
            _ => return None,
        };
        let (value, rest) = values.split_at_checked(size)?;
        values = rest;
        Some(value)
    };
    take(kinds[0])?;
    let conversation = String::from_utf8(take(kinds[1])?.to_vec()).ok()?;
    let body = String::from_utf8(take(kinds[2])?.to_vec()).ok()?;
    let sum = take(kinds[3])?.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    (sum == u64::from(crc(&conversation, &body))).then_some((conversation, body))
}

/// A number of one to nine bytes.
fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for at in 0..9 {
        let byte = *bytes.get(at)?;
        if at == 8 {
            value = value << 8 | u64::from(byte);
        } else {
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 != 0 {
                continue;
            }
        }
        *bytes = &bytes[at + 1..];
        return Some(value.cast_signed());
    }
    None
}
