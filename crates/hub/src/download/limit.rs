//! `Limiter`: how many bytes a second all downloads together may take.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// How many bytes a second all downloads together may take.
#[derive(Debug)]
pub(crate) struct Limiter {
    rate: Option<u64>,
    /// When the bytes that were let through have had their time.
    due: Mutex<Instant>,
}

/// Time that may be saved up, so that a slow start does not count.
const BURST: Duration = Duration::from_millis(200);

impl Limiter {
    /// `None` and 0 do not limit.
    pub(crate) fn new(bytes_per_second: Option<u64>) -> Self {
        Self { rate: bytes_per_second.filter(|rate| *rate > 0), due: Mutex::new(Instant::now()) }
    }

    /// Returns when so many bytes may go through. First come, first served.
    pub(crate) async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let mut due = self.due.lock().await;
        let begin = (*due).max(Instant::now() - BURST);
        *due = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        let until = *due;
        drop(due);
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_go_through_at_the_rate_whoever_asks() {
        let limiter = Limiter::new(Some(1_000));
        let start = Instant::now();
        let take = || async {
            for _ in 0..10 {
                limiter.take(250).await;
            }
        };
        tokio::join!(take(), take());
        let took = start.elapsed().as_secs_f64();
        assert!((4.7..5.1).contains(&took), "{took}");
        Limiter::new(None).take(usize::MAX).await;
    }
}
