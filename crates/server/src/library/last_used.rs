//! `LastUsed`: when each model was last used by a request, kept over restarts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(60);
/// Models that are remembered; those unused longest are forgotten first.
const MAX_MODELS: usize = 10_000;

/// When each model was last used.
#[derive(Debug)]
pub(crate) struct LastUsed {
    path: PathBuf,
    /// By id, in milliseconds since 1970.
    times: Mutex<HashMap<String, u64>>,
}

impl LastUsed {
    /// What is written in the file at `path`, if it is there. Blocks.
    pub(crate) fn open(path: PathBuf) -> Self {
        let text = std::fs::read(&path).unwrap_or_default();
        let times = serde_json::from_slice(&text).unwrap_or_default();
        Self { path, times: Mutex::new(times) }
    }

    /// When the model `id` was last used.
    pub(crate) fn of(&self, id: &str) -> Option<u64> {
        self.times.lock().get(id).copied()
    }

    /// Takes over what the recent requests say.
    pub(crate) fn note(&self, activity: &Activity) -> bool {
        let mut times = self.times.lock();
        let mut changed = false;
        for record in activity.recent() {
            let at = record.at.saturating_add(record.duration_ms);
            let known = times.entry(record.model).or_default();
            changed |= *known < at;
            *known = at.max(*known);
        }
        while times.len() > MAX_MODELS {
            let Some(oldest) = times.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone()) else {
                break;
            };
            times.remove(&oldest);
        }
        changed
    }

    /// Writes it down now and then, and once more when the server stops.
    pub(crate) async fn keep(self: Arc<Self>, activity: Arc<Activity>, stop: CancellationToken) {
        loop {
            let stopping = tokio::time::timeout(EVERY, stop.cancelled()).await.is_ok();
            if self.note(&activity) {
                let this = self.clone();
                let _ = tokio::task::spawn_blocking(move || this.write()).await;
            }
            if stopping {
                return;
            }
        }
    }

    /// Whole or not at all. That it cannot be written is no reason to fail.
    fn write(&self) {
        let bytes = serde_json::to_vec(&*self.times.lock()).unwrap_or_default();
        let beside = self.path.with_extension("json.new");
        let folder = self.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder
            .and_then(|()| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::rename(&beside, &self.path));
        if let Err(error) = written {
            tracing::debug!(path = %self.path.display(), %error, "when models were used is not kept");
        }
    }
}
