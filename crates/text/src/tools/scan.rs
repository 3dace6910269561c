//! `JsonScan`: finds the end of a JSON value that arrives in pieces, looking at each byte once.
//!
//! It knows brackets, strings and escapes, not the whole grammar: what it calls complete is then parsed by serde_json.
//! A byte that no JSON has outside a string is an error at once, so a broken call does not hold back the stream.

/// Progress of one value, which must be an object or a list.
#[derive(Debug, Clone, Default)]
pub(super) struct JsonScan {
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
}

/// What a byte came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    More,
    Complete,
    Broken,
}

/// serde_json's own recursion limit.
const MAX_DEPTH: usize = 127;

impl JsonScan {
    pub(super) fn advance(&mut self, byte: u8) -> Scanned {
        if self.in_string {
            match (self.escaped, byte) {
                (true, _) => self.escaped = false,
                (false, b'\\') => self.escaped = true,
                (false, b'"') => self.in_string = false,
                _ => {}
            }
            return Scanned::More;
        }
        match byte {
            b'{' | b'[' if self.open.len() < MAX_DEPTH => self.open.push(byte),
            b'}' | b']' => {
                let opening = if byte == b'}' { b'{' } else { b'[' };
                if self.open.pop() != Some(opening) {
                    return Scanned::Broken;
                }
                if self.open.is_empty() {
                    return Scanned::Complete;
                }
            }
            b'"' => self.in_string = true,
            b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'+' | b'-' | b'.' => {}
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {}
            _ => return Scanned::Broken,
        }
        Scanned::More
    }

    /// What is missing to close all brackets, if the scan stands outside a string.
    pub(super) fn missing(&self) -> Option<String> {
        let closing = |open: &u8| if *open == b'{' { '}' } else { ']' };
        (!self.in_string).then(|| self.open.iter().rev().map(closing).collect())
    }
}
