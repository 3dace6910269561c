//! `Cursor`: reads little-endian values out of a file's bytes, each against what is left of them.
//!
//! Invariants: nothing is allocated for a length before that many bytes are known to be there, and a failed read names
//! the offset at which it began.

/// What is wrong with a file, and at which byte.
#[derive(Debug)]
pub(crate) struct Damage {
    /// Offset from the start of the file.
    pub(crate) offset: usize,
    /// What was found there.
    pub(crate) reason: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at byte {})", self.reason, self.offset)
    }
}

/// A reading position in the bytes of a file.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from offset `at` on.
    pub(crate) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at: at.min(bytes.len()) }
    }

    /// Offset of the next byte.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The error for something found `offset` bytes into the file.
    pub(crate) fn damage<T>(offset: usize, reason: impl Into<String>) -> Result<T, Damage> {
        Err(Damage { offset, reason: reason.into() })
    }

    /// The next `len` bytes, as the file's own count says.
    pub(crate) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], Damage> {
        match usize::try_from(len) {
            Ok(len) if len <= self.left() => {
                let taken = &self.bytes[self.at..self.at + len];
                self.at += len;
                Ok(taken)
            }
            _ => Self::damage(self.at, format!("{what} takes {len} bytes, but {} are left", self.left())),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Damage> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N as u64, what)?);
        Ok(value)
    }

    /// A 32-bit number.
    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, Damage> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, Damage> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and that many bytes of UTF-8.
    pub(crate) fn str(&mut self, what: &str) -> Result<&'a str, Damage> {
        let start = self.at;
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => Self::damage(start, format!("{what} is not UTF-8")),
        }
    }
}
