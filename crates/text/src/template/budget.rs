//! `Budget`: what one rendering may still use, shared by everything that produces text in it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Instructions of one rendering, and more for each byte of the conversation. A long agent session with tools takes
/// about a tenth of this.
const FUEL: u64 = 2_000_000;
const FUEL_PER_BYTE: u64 = 8;
/// Bytes that a rendering may write beyond what the conversation holds, captured text included.
const OUTPUT: usize = 8 << 20;
/// Bytes of the template's own plain text that the instructions of one rendering can write, captured text included, and
/// more for each byte of the conversation. Caps the fuel of templates with long stretches of text.
const RAW: u64 = 512 << 20;
const RAW_FACTOR: u64 = 1024;
/// Bytes of values that a rendering may make, one after the other, and more for each byte of the conversation.
const VALUES: usize = 256 << 20;
const VALUES_FACTOR: usize = 256;
/// How often the conversation's own text may be written.
const OUTPUT_FACTOR: usize = 16;
/// Values nested deeper than this are refused; messages and schemas have a few levels.
const MAX_DEPTH: usize = 200;
/// Time of one rendering.
const TIME: Duration = Duration::from_secs(5);

/// Limits of one rendering.
pub(super) struct Budget {
    output: usize,
    fuel: u64,
    deadline: Instant,
    written: AtomicUsize,
    made: AtomicUsize,
    values: usize,
}

impl Budget {
    /// For a conversation of `input` bytes and a template whose longest plain text has `text` bytes.
    pub(super) fn new(input: usize, text: usize) -> Self {
        let fuel = (input as u64).saturating_mul(FUEL_PER_BYTE).saturating_add(FUEL);
        Self {
            output: input.saturating_mul(OUTPUT_FACTOR).saturating_add(OUTPUT),
            fuel: fuel
                .min((input as u64).saturating_mul(RAW_FACTOR).saturating_add(RAW) / (text as u64).max(1)),
            deadline: Instant::now() + TIME,
            written: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            values: input.saturating_mul(VALUES_FACTOR).saturating_add(VALUES),
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

    /// Counts a value of `bytes` that is about to be made or has been.
    pub(super) fn make(&self, bytes: usize) -> Result<(), Error> {
        self.check(bytes)?;
        let before = self.made.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.values {
            return Err(Exceeded::error(format!("it makes more than {} bytes of values", self.values)));
        }
        Ok(())
    }

    /// Counts a value, however it is nested, as bytes of its text. Fails as soon as that is too much.
    pub(super) fn weigh(&self, value: &Value) -> Result<usize, Error> {
        let mut bytes = 0usize;
        self.weigh_into(value, 0, &mut bytes)?;
        Ok(bytes)
    }

    fn weigh_into(&self, value: &Value, depth: usize, bytes: &mut usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Exceeded::error("it nests values too deeply".to_owned()));
        }
        *bytes = bytes.saturating_add(value.as_str().map_or(24, str::len));
        if *bytes > self.output {
            return Err(Exceeded::error(format!("it makes a value of more than {} bytes", self.output)));
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.weigh_into(&item, depth + 1, bytes)?;
                }
            }
            ValueKind::Map => {
                for key in value.try_iter()? {
                    *bytes = bytes.saturating_add(key.as_str().map_or(24, str::len));
                    self.weigh_into(&value.get_item(&key)?, depth + 1, bytes)?;
                }
            }
            _ => {}
        }
        Ok(())
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
