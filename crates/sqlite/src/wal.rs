//! Looks at a write-ahead log as bytes, because SQLite passes over what is damaged there: it replays what comes before
//! and says nothing of the rest.
//!
//! A log that ends in the middle of a transaction is what a killed process leaves, and no damage. The end of a transaction
//! behind a broken frame is: it is written last.

use std::path::Path;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// What is wrong with the write-ahead log at `path`; `None` if nothing is, or there is none.
pub fn damage(path: &Path) -> Option<String> {
    match std::fs::read(path) {
        Ok(bytes) => broken(&bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("its write-ahead log cannot be read: {error}")),
    }
}

fn broken(bytes: &[u8]) -> Option<String> {
    if bytes.len() < HEADER {
        return None;
    }
    let (header, frames) = bytes.split_at(HEADER);
    let big_endian = match word(header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        _ => return Some("its write-ahead log does not begin as one does".to_owned()),
    };
    let mut sum = (0, 0);
    add(&mut sum, &header[..24], big_endian);
    if sum != (word(header, 24), word(header, 28)) {
        return Some("the beginning of its write-ahead log is damaged".to_owned());
    }
    let page = word(header, 8) as usize;
    if !page.is_power_of_two() || !(512..=65536).contains(&page) {
        return Some("its write-ahead log tells an impossible page size".to_owned());
    }
    let salt = &header[16..24];
    let mut broken = None;
    for (index, frame) in frames.chunks_exact(FRAME + page).enumerate() {
        if &frame[8..16] != salt {
            // Left over from before the log was last begun anew. So is all that follows, unless the salt was hit.
            broken.get_or_insert(index);
            continue;
        }
        if let Some(at) = broken {
            let commits = word(frame, 4) != 0;
            if commits {
                return Some(format!("its write-ahead log is damaged at frame {at}"));
            }
            continue;
        }
        add(&mut sum, &frame[..8], big_endian);
        add(&mut sum, &frame[FRAME..], big_endian);
        if sum != (word(frame, 16), word(frame, 20)) {
            broken = Some(index);
        }
    }
    None
}

/// A number of the log's own headers: always big-endian.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// SQLite's checksum of a log: two running sums over pairs of words.
fn add(sum: &mut (u32, u32), bytes: &[u8], big_endian: bool) {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    for pair in bytes.chunks_exact(8) {
        sum.0 = sum.0.wrapping_add(word(pair)).wrapping_add(sum.1);
        sum.1 = sum.1.wrapping_add(word(&pair[4..])).wrapping_add(sum.0);
    }
}
