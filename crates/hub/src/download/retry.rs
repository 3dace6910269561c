//! How long to wait before the next attempt.

use std::time::Duration;

use super::error::DownloadError;
use crate::remote::HubError;

/// The first wait, on average less.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);
/// Failures in a row, without a byte between them, after which a download is given up: about six minutes.
pub(crate) const MAX_FAILURES: u32 = 13;

/// How long to wait after so many failures in a row: twice as long each time, and by chance up to half less, so that many
/// clients do not come back at once. A server that says when is believed.
pub(crate) fn delay(failures: u32, error: &DownloadError) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let jittered = doubled.mul_f64(rand::random_range(0.5..=1.0));
    match error {
        DownloadError::Hub(HubError::RateLimited { retry_after }) => jittered.max(*retry_after),
        _ => jittered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_a_server_is_believed() {
        let broken = DownloadError::Hub(HubError::Failed { host: "h".into(), status: 503 });
        for (failures, most) in [(1, 0.5), (2, 1.0), (5, 8.0), (9, 60.0), (1_000, 60.0)] {
            let wait = delay(failures, &broken).as_secs_f64();
            assert!((most / 2.0..=most).contains(&wait), "{failures}: {wait}");
        }
        let limited = DownloadError::Hub(HubError::RateLimited { retry_after: Duration::from_secs(90) });
        assert_eq!(delay(1, &limited), Duration::from_secs(90));
    }
}
