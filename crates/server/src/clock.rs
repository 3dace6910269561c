//! Wall-clock times as the wire has them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds since 1970, now.
pub(crate) fn now_seconds() -> u64 {
    millis(SystemTime::now()) / 1000
}
