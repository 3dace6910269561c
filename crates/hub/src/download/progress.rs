//! `Progress`: how far a download is and how fast it goes. Written by those who fetch, read by whoever looks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::DownloadError;

/// The time over which a rate is taken.
const WINDOW: Duration = Duration::from_secs(5);
/// Time between two samples, and between two news for watchers.
const PACE: Duration = Duration::from_millis(200);

/// How far a download is.
#[derive(Debug)]
pub(crate) struct Progress {
    done: Vec<AtomicU64>,
    complete: Vec<AtomicBool>,
    /// Files whose bytes arrive, or that somebody else writes for us.
    pub(crate) active: AtomicUsize,
    /// Files that wait to try again, and why.
    pub(crate) retrying: AtomicUsize,
    trouble: Mutex<Option<DownloadError>>,
    meter: Mutex<Meter>,
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Meter {
    samples: VecDeque<(Instant, u64)>,
    arrived: u64,
}

impl Progress {
    /// Nothing of so many files. Every change makes news.
    pub(crate) fn new(files: usize, news: watch::Sender<u64>) -> Self {
        Self {
            done: (0..files).map(|_| AtomicU64::new(0)).collect(),
            complete: (0..files).map(|_| AtomicBool::new(false)).collect(),
            active: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
            trouble: Mutex::default(),
            meter: Mutex::default(),
            news,
        }
    }

    pub(crate) fn set(&self, file: usize, bytes: u64) {
        self.done[file].store(bytes, Ordering::Relaxed);
    }

    /// Bytes have arrived over the network.
    pub(crate) fn add(&self, file: usize, bytes: u64) {
        self.done[file].fetch_add(bytes, Ordering::Relaxed);
        let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        meter.arrived += bytes;
        let now = Instant::now();
        if meter.samples.back().is_some_and(|(last, _)| now.duration_since(*last) < PACE) {
            return;
        }
        let arrived = meter.arrived;
        meter.samples.push_back((now, arrived));
        while meter.samples.front().is_some_and(|(first, _)| now.duration_since(*first) > WINDOW) {
            meter.samples.pop_front();
        }
        drop(meter);
        self.tell();
    }

    pub(crate) fn complete(&self, file: usize) {
        self.complete[file].store(true, Ordering::Relaxed);
        self.tell();
    }

    pub(crate) fn is_complete(&self, file: usize) -> bool {
        self.complete[file].load(Ordering::Relaxed)
    }

    pub(crate) fn done(&self, file: usize) -> u64 {
        self.done[file].load(Ordering::Relaxed)
    }

    /// Bytes a second over the last seconds.
    pub(crate) fn rate(&self) -> u64 {
        let meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let recent = |(at, _): &&(Instant, u64)| now.duration_since(*at) <= WINDOW;
        let Some((since, before)) = meter.samples.iter().find(recent) else { return 0 };
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds < PACE.as_secs_f64() { 0 } else { ((meter.arrived - before) as f64 / seconds) as u64 }
    }

    pub(crate) fn set_trouble(&self, trouble: Option<DownloadError>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        self.tell();
    }

    pub(crate) fn trouble(&self) -> Option<DownloadError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }
}

/// Counts itself in while it lives.
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub(crate) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
