//! `Job`: one download's life: the task that fetches its files, and the state that everybody sees.
//!
//! A job has at most one run at a time that counts: pausing and removing cancel it, resuming begins a new one. What an
//! older run still says at its end is not heard.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::cache::RepoCache;
use super::error::DownloadError;
use super::fetch::{Fetch, Miss};
use super::limit::Limiter;
use super::plan::{Plan, Select, Wanted};
use super::progress::{Counted, Progress};
use super::retry::{MAX_FAILURES, delay};
use super::view::{Download, DownloadFile, DownloadState};
use crate::remote::{Hub, Preference};

/// Times that a plan is made anew because the hub has changed meanwhile.
const MAX_CHANGES: u32 = 2;

/// What all jobs work with.
#[derive(Debug)]
pub(crate) struct Means {
    pub(crate) hub: Hub,
    /// Files at once, over all jobs.
    pub(crate) places: Semaphore,
    pub(crate) limiter: Arc<Limiter>,
    /// Counts every change, for watchers.
    pub(crate) news: watch::Sender<u64>,
}

/// One download.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) created_at: SystemTime,
    body: Mutex<Body>,
}

#[derive(Debug)]
struct Body {
    plan: Arc<Plan>,
    progress: Arc<Progress>,
    phase: Phase,
    ended_at: Option<SystemTime>,
    stop: CancellationToken,
    /// Counts runs.
    run: u64,
}

/// Where a job is in its life.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Running,
    /// Somebody has said so.
    Paused,
    /// The process is ending; it goes on in the next one.
    Interrupted,
    Completed,
    Failed(DownloadError),
}

/// What a run must know to be heard.
#[derive(Debug)]
pub(crate) struct Run {
    number: u64,
    stop: CancellationToken,
}

impl Job {
    /// A job that stands still.
    pub(crate) fn new(id: String, created_at: SystemTime, plan: Plan, means: &Means) -> Self {
        let progress = Arc::new(Progress::new(plan.files.len(), means.news.clone()));
        let body = Body {
            plan: Arc::new(plan),
            progress,
            phase: Phase::Paused,
            ended_at: None,
            stop: CancellationToken::new(),
            run: 0,
        };
        Self { id, created_at, body: Mutex::new(body) }
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        self.body().plan.clone()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.body().phase.clone()
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.body().phase, Phase::Running)
    }

    /// Begins a run; `None` if there is one.
    pub(crate) fn begin(&self, parent: &CancellationToken) -> Option<Run> {
        let mut body = self.body();
        if matches!(body.phase, Phase::Running) {
            return None;
        }
        body.phase = Phase::Running;
        body.ended_at = None;
        body.stop = parent.child_token();
        body.run += 1;
        body.progress.set_trouble(None);
        Some(Run { number: body.run, stop: body.stop.clone() })
    }

    /// Ends the run, if there is one.
    pub(crate) fn pause(&self) {
        let mut body = self.body();
        if matches!(body.phase, Phase::Running) {
            body.phase = Phase::Paused;
            body.stop.cancel();
        }
        body.progress.tell();
    }

    /// Counts what is here already. Blocks.
    pub(crate) fn look(&self, cache: &RepoCache) {
        let (plan, progress) = {
            let body = self.body();
            (body.plan.clone(), body.progress.clone())
        };
        for (index, file) in plan.files.iter().enumerate() {
            progress.set(index, cache.present(&plan.commit, file));
        }
    }

    /// Fetches everything, to the end of the run. Returns whether the job is complete now.
    pub(crate) async fn run(self: Arc<Self>, means: Arc<Means>, run: Run) -> bool {
        let mut changes = 0;
        let result = loop {
            let result = self.fetch_all(&means, &run).await;
            match result {
                Err(Miss::Failed(DownloadError::Changed { .. })) if changes < MAX_CHANGES => {
                    changes += 1;
                    if let Err(miss) = self.plan_anew(&means, &run).await {
                        break Err(miss);
                    }
                }
                other => break other,
            }
        };
        let mut body = self.body();
        if body.run != run.number || !matches!(body.phase, Phase::Running) {
            return false;
        }
        body.ended_at = Some(SystemTime::now());
        body.phase = match result {
            Ok(()) => Phase::Completed,
            Err(Miss::Failed(error)) => Phase::Failed(error),
            Err(Miss::Stopped) => Phase::Interrupted,
        };
        match &body.phase {
            Phase::Failed(error) => {
                tracing::warn!(model = %body.plan.model, %error, "a download was given up")
            }
            Phase::Completed => tracing::info!(model = %body.plan.model, "downloaded"),
            _ => {}
        }
        body.progress.tell();
        matches!(body.phase, Phase::Completed)
    }

    async fn fetch_all(&self, means: &Arc<Means>, run: &Run) -> Result<(), Miss> {
        let (plan, progress) = {
            let body = self.body();
            (body.plan.clone(), body.progress.clone())
        };
        let cache = Arc::new(RepoCache::new(&means.hub.settings().cache, &plan.repo));
        // A file that fails for good ends the others.
        let stop = run.stop.child_token();
        let mut files = JoinSet::new();
        for index in 0..plan.files.len() {
            let fetch = Fetch {
                hub: means.hub.clone(),
                cache: cache.clone(),
                plan: plan.clone(),
                index,
                progress: progress.clone(),
                limiter: means.limiter.clone(),
                stop: stop.clone(),
                validator: None,
            };
            files.spawn(fetch_one(fetch, means.clone()));
        }
        let mut first = Ok(());
        while let Some(ended) = files.join_next().await {
            let result = ended.unwrap_or(Err(Miss::Stopped));
            if result.is_err() {
                stop.cancel();
                // The first failure is the cause; that others were stopped is its effect.
                if first.is_ok() || matches!((&first, &result), (Err(Miss::Stopped), Err(Miss::Failed(_)))) {
                    first = result;
                }
            }
        }
        first?;
        let path = cache.blob(&plan.files[0].blob);
        let published = spawn_blocking(move || cache.publish(&plan)).await.map_err(|_| Miss::Stopped)?;
        Ok(published.map_err(DownloadError::io(path))?)
    }

    /// Asks the hub again what the same files are now.
    async fn plan_anew(&self, means: &Means, run: &Run) -> Result<(), Miss> {
        let old = self.plan();
        let paths = old.files.iter().map(|file| file.path.to_string()).collect();
        let wanted =
            Wanted { repo: old.repo.clone(), revision: old.revision.clone(), select: Select::Files(paths) };
        let preference = Preference { budget: None, runs: |_| true };
        let making = Plan::make(&means.hub, &wanted, preference);
        let made = run.stop.run_until_cancelled(making).await.ok_or(Miss::Stopped)??;
        tracing::info!(model = %old.model, commit = %made.commit, "the hub has changed; beginning with what is there now");
        // What arrived of contents that are no longer wanted is of no use to anybody.
        let cache = RepoCache::new(&means.hub.settings().cache, &old.repo);
        let stale: Vec<_> = old.files.iter().map(|file| file.blob.clone()).collect();
        let kept: Vec<_> = made.files.iter().map(|file| file.blob.clone()).collect();
        let discarding = spawn_blocking(move || {
            for blob in stale.iter().filter(|blob| !kept.contains(blob)) {
                let _ = super::blob::discard(&cache, blob);
            }
        });
        let _ = discarding.await;
        let mut body = self.body();
        body.progress = Arc::new(Progress::new(made.files.len(), means.news.clone()));
        body.plan =
            Arc::new(Plan { model: old.model.clone(), quantization: old.quantization.clone(), ..made });
        Ok(())
    }

    /// The job as everybody sees it.
    pub(crate) fn view(&self) -> Download {
        let body = self.body();
        let (plan, progress) = (&body.plan, &body.progress);
        let complete = matches!(body.phase, Phase::Completed);
        let file = |(index, file): (usize, &super::plan::PlanFile)| DownloadFile {
            path: file.path.to_string(),
            size_bytes: file.size,
            done_bytes: if complete { file.size } else { progress.done(index).min(file.size) },
            completed: complete || progress.is_complete(index),
        };
        let files: Vec<DownloadFile> = plan.files.iter().enumerate().map(file).collect();
        let total_bytes = plan.total_bytes();
        let done_bytes = files.iter().map(|file| file.done_bytes).fold(0, u64::saturating_add);
        let (state, error) = match &body.phase {
            Phase::Paused | Phase::Interrupted => (DownloadState::Paused, None),
            Phase::Completed => (DownloadState::Completed, None),
            Phase::Failed(error) => (DownloadState::Failed, Some(error.clone())),
            Phase::Running if progress.active.load(Ordering::Relaxed) > 0 => {
                (DownloadState::Downloading, None)
            }
            Phase::Running if progress.retrying.load(Ordering::Relaxed) > 0 => {
                (DownloadState::Retrying, progress.trouble())
            }
            Phase::Running => (DownloadState::Queued, None),
        };
        let rate = if state == DownloadState::Downloading { progress.rate() } else { 0 };
        Download {
            id: self.id.clone(),
            repo: plan.repo.to_string(),
            model: plan.model.clone(),
            quantization: plan.quantization.clone(),
            revision: plan.revision.to_string(),
            commit: plan.commit.to_string(),
            state,
            error,
            files,
            total_bytes,
            done_bytes,
            bytes_per_second: rate,
            seconds_left: (rate > 0).then(|| (total_bytes - done_bytes).div_ceil(rate)),
            created_at: self.created_at,
            ended_at: body.ended_at,
        }
    }
}

/// Fetches one file, through as many attempts as it takes.
async fn fetch_one(mut fetch: Fetch, means: Arc<Means>) -> Result<(), Miss> {
    let progress = fetch.progress.clone();
    let (mut failures, mut damaged, mut reached) = (0, false, 0);
    loop {
        let place = fetch.stop.run_until_cancelled(means.places.acquire()).await;
        let _place = place.ok_or(Miss::Stopped)?.map_err(|_| Miss::Stopped)?;
        let active = Counted::new(&progress.active);
        progress.tell();
        let result = fetch.attempt().await;
        drop((active, _place));
        let error = match result {
            Ok(()) => {
                progress.complete(fetch.index);
                return Ok(());
            }
            Err(Miss::Stopped) => return Err(Miss::Stopped),
            Err(Miss::Failed(error)) => error,
        };
        // What was kept from before may have been at fault; content that arrives whole and wrong twice is wrong there.
        if matches!(error, DownloadError::Checksum { .. }) && !damaged {
            damaged = true;
            continue;
        }
        if !error.is_transient() {
            return Err(Miss::Failed(error));
        }
        let done = progress.done(fetch.index);
        failures = if done > reached { 1 } else { failures + 1 };
        reached = done.max(reached);
        if failures >= MAX_FAILURES {
            return Err(Miss::Failed(error));
        }
        let wait = delay(failures, &error);
        tracing::debug!(file = %fetch.plan.files[fetch.index].path, %error, ?wait, "trying again");
        let retrying = Counted::new(&progress.retrying);
        progress.set_trouble(Some(error));
        let waited = fetch.stop.run_until_cancelled(tokio::time::sleep(wait)).await;
        drop(retrying);
        waited.ok_or(Miss::Stopped)?;
    }
}
