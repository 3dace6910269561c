//! `Activity`: the requests that are being answered, counts of those that were, and the recent ones for the dashboard.
//!
//! A request is a [`Running`] from its first look at the model to its last byte; dropped before it was finished, it
//! counts as given up by its client.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use perch_protocol::{Outcome, RequestCounts, RequestRecord};
use perch_usage::Recorder;
use tokio::sync::watch;

use crate::clock::millis;
use crate::error::ApiError;
use crate::metrics::Metrics;

/// Requests of the recent past that are kept.
const RECENT: usize = 200;

/// The requests of one server.
pub(crate) struct Activity {
    metrics: Arc<Metrics>,
    usage: Arc<Recorder>,
    books: Mutex<Books>,
    /// Counts up whenever a request begins or ends.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Books {
    counts: RequestCounts,
    recent: VecDeque<RequestRecord>,
}

impl Activity {
    pub(crate) fn new(metrics: Arc<Metrics>, usage: Arc<Recorder>) -> Self {
        Self { metrics, usage, books: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>, id: String, route: &str) -> Running {
        self.books.lock().counts.active += 1;
        self.touch();
        let record = RequestRecord {
            id,
            route: route.to_owned(),
            model: String::new(),
            at: millis(SystemTime::now()),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            first_token_ms: None,
            duration_ms: 0,
            outcome: Outcome::Cancelled,
        };
        Running { activity: self.clone(), record, begun: Instant::now() }
    }

    /// Requests now and so far.
    pub(crate) fn counts(&self) -> RequestCounts {
        self.books.lock().counts
    }

    /// Recent requests, newest first.
    pub(crate) fn recent(&self) -> Vec<RequestRecord> {
        self.books.lock().recent.iter().rev().cloned().collect()
    }

    /// Announces that a request began or ended.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn touch(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// A request that is being answered.
pub(crate) struct Running {
    activity: Arc<Activity>,
    record: RequestRecord,
    begun: Instant,
}

impl Running {
    /// Which model answers.
    pub(crate) fn answered_by(&mut self, model: &str) {
        model.clone_into(&mut self.record.model);
    }

    /// Tokens of its prompt.
    pub(crate) fn prompt(&mut self, tokens: usize) {
        self.record.prompt_tokens += tokens as u64;
    }

    /// Of these, tokens that were found in the prefix cache.
    pub(crate) fn cached(&mut self, tokens: usize) {
        self.record.cached_tokens += tokens as u64;
    }

    /// A token was generated.
    pub(crate) fn token(&mut self) {
        self.record.completion_tokens += 1;
        if self.record.first_token_ms.is_none() {
            let elapsed = self.begun.elapsed();
            self.record.first_token_ms = Some(elapsed.as_millis() as u64);
            self.activity.metrics.first_token(&self.record.model, elapsed);
        }
    }

    /// It was answered in full, with so many tokens.
    pub(crate) fn completed(mut self, tokens: u64) {
        self.record.completion_tokens = tokens;
        self.record.outcome = Outcome::Completed;
    }

    /// It was answered with an error.
    pub(crate) fn failed(mut self, error: &ApiError) {
        self.record.outcome = Outcome::Failed(error.code.as_str().to_owned());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut record = self.record.clone();
        record.duration_ms = self.begun.elapsed().as_millis() as u64;
        self.activity.metrics.request(&record);
        self.activity.usage.note(&record);
        let mut books = self.activity.books.lock();
        books.counts.active -= 1;
        match record.outcome {
            Outcome::Completed => books.counts.completed += 1,
            Outcome::Cancelled => books.counts.cancelled += 1,
            Outcome::Failed(_) => books.counts.failed += 1,
        }
        if books.recent.len() == RECENT {
            books.recent.pop_front();
        }
        books.recent.push_back(record);
        drop(books);
        self.activity.touch();
    }
}
