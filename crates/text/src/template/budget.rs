//! `Budget`: what one rendering may still use, shared by everything that produces text in it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minijinja::{Error, ErrorKind};

/// Instructions of one rendering, and more for each byte of the conversation. A long agent session with tools takes
/// about a tenth of this.
const FUEL: u64 = 2_000_000;
const FUEL_PER_BYTE: u64 = 8;
/// Bytes that a rendering may write beyond what the conversation holds, captured text included.
const OUTPUT: usize = 8 << 20;
/// How often the conversation's own text may be written.
const OUTPUT_FACTOR: usize = 16;
/// Time of one rendering.
const TIME: Duration = Duration::from_secs(5);

/// Limits of one rendering.
pub(super) struct Budget {
    output: usize,
    fuel: u64,
    deadline: Instant,
    written: AtomicUsize,
}

impl Budget {
    /// For a conversation of this many bytes.
    pub(super) fn new(input: usize) -> Self {
        Self {
            output: input.saturating_mul(OUTPUT_FACTOR).saturating_add(OUTPUT),
            fuel: (input as u64).saturating_mul(FUEL_PER_BYTE).saturating_add(FUEL),
            deadline: Instant::now() + TIME,
            written: AtomicUsize::new(0),
        }
    }

    /// Instructions allowed.
    pub(super) fn fuel(&self) -> u64 {
        self.fuel
    }

    /// Longest single text allowed, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.output
    }

    /// Counts `bytes` of output.
    pub(super) fn write(&self, bytes: usize) -> Result<(), Error> {
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        self.check(before.saturating_add(bytes))
    }

    /// Fails if a text of `bytes` is too long, or time is up.
    pub(super) fn check(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.output {
            return Err(Exceeded::error(format!("it writes more than {} bytes", self.output)));
        }
        if Instant::now() > self.deadline {
            return Err(Exceeded::error(format!("it takes more than {} s", TIME.as_secs())));
        }
        Ok(())
    }
}

/// Marks an error as a limit, through minijinja's chain of sources.
#[derive(Debug)]
pub(super) struct Exceeded(pub(super) String);

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Exceeded {}

impl Exceeded {
    fn error(reason: String) -> Error {
        Error::new(ErrorKind::InvalidOperation, "limit").with_source(Self(reason))
    }
}
