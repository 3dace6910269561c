//! `Downloads`: all downloads of this process, and the tasks that run them.
//!
//! Invariants: one job for the same files; every task belongs to the tracker and has ended when [`Downloads::shutdown`]
//! returns; what is unfinished is remembered at every change of state, never at every byte.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::blob::discard;
use super::cache::RepoCache;
use super::error::DownloadError;
use super::job::{Job, Means, Phase};
use super::limit::Limiter;
use super::plan::{Plan, Wanted};
use super::space;
use super::store::{Remembered, Store};
use super::view::Download;
use crate::remote::{Hub, Preference};

/// Completions that a slow listener may lag behind.
const LAG: usize = 64;

/// How downloads are run.
#[derive(Debug, Clone)]
pub struct DownloadConfig {
    /// Files at once, at least 1.
    pub max_at_once: usize,
    /// Bytes a second for all together; `None` does not limit.
    pub bytes_per_second: Option<u64>,
    /// Where unfinished downloads are remembered over restarts; `None` forgets them (what has arrived is kept).
    pub state_file: Option<PathBuf>,
}

impl Default for DownloadConfig {
    fn default() -> Self {
        Self { max_at_once: 3, bytes_per_second: None, state_file: None }
    }
}

/// All downloads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    means: Arc<Means>,
    jobs: Mutex<Vec<Arc<Job>>>,
    store: Store,
    /// Saves come one after another.
    saving: tokio::sync::Mutex<()>,
    completed: broadcast::Sender<Download>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Downloads {
    /// Downloads from `hub`. What was unfinished and not paused when the last process ended goes on by itself. Must be
    /// called within a runtime; reads one small file.
    pub fn open(hub: Hub, config: DownloadConfig) -> Self {
        let store = Store::new(config.state_file);
        let means = Arc::new(Means {
            hub,
            places: Semaphore::new(config.max_at_once.clamp(1, 64)),
            limiter: Arc::new(Limiter::new(config.bytes_per_second)),
            news: watch::Sender::new(0),
        });
        let shared = Arc::new(Shared {
            means,
            jobs: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
            completed: broadcast::Sender::new(LAG),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            store,
        });
        let this = Self { shared };
        for known in this.shared.store.load() {
            let job = Arc::new(Job::new(known.id, known.created_at, known.plan, &this.shared.means));
            job.look(&this.cache(&job));
            this.jobs().push(job.clone());
            if !known.paused {
                this.spawn(job);
            }
        }
        this
    }

    /// Begins to download, or joins the download that fetches the same files already.
    ///
    /// # Errors
    /// [`DownloadError`]: the hub does not have it or refuses, or the disk is too small.
    pub async fn start(&self, wanted: &Wanted, preference: Preference) -> Result<Download, DownloadError> {
        if self.shared.stop.is_cancelled() {
            return Err(DownloadError::Stopping);
        }
        let plan = Plan::make(&self.shared.means.hub, wanted, preference).await?;
        let same = self.jobs().iter().find(|job| job.plan().is_same(&plan)).cloned();
        let job = match same {
            Some(job) => job,
            None => {
                self.check_space(&plan).await?;
                self.insert(plan)
            }
        };
        self.go(&job).await?;
        Ok(job.view())
    }

    /// All downloads that were not removed, in the order in which they were asked for.
    pub fn list(&self) -> Vec<Download> {
        let jobs = self.jobs().clone();
        jobs.iter().map(|job| job.view()).collect()
    }

    /// One download.
    ///
    /// # Errors
    /// [`DownloadError::Unknown`].
    pub fn get(&self, id: &str) -> Result<Download, DownloadError> {
        Ok(self.job(id)?.view())
    }

    /// Lets a download stand still. What has arrived is kept. Nothing happens to one that does not run.
    ///
    /// # Errors
    /// [`DownloadError::Unknown`].
    pub async fn pause(&self, id: &str) -> Result<Download, DownloadError> {
        let job = self.job(id)?;
        job.pause();
        self.save().await;
        Ok(job.view())
    }

    /// Lets a download that stands still or was given up go on. Nothing happens to one that runs or is complete.
    ///
    /// # Errors
    /// [`DownloadError::Unknown`], or the disk is too small now.
    pub async fn resume(&self, id: &str) -> Result<Download, DownloadError> {
        let job = self.job(id)?;
        if !matches!(job.phase(), Phase::Completed) {
            self.go(&job).await?;
        }
        Ok(job.view())
    }

    /// Ends a download and deletes what has arrived of unfinished files. Files that are complete stay in the cache.
    ///
    /// # Errors
    /// [`DownloadError::Unknown`].
    pub async fn remove(&self, id: &str) -> Result<(), DownloadError> {
        let job = self.job(id)?;
        job.pause();
        self.jobs().retain(|other| other.id != job.id);
        self.shared.means.news.send_modify(|count| *count += 1);
        self.save().await;
        let plan = job.plan();
        let jobs = self.jobs().clone();
        let wanted_elsewhere: Vec<_> = jobs
            .iter()
            .filter(|other| other.plan().repo == plan.repo)
            .flat_map(|other| other.plan().files.iter().map(|file| file.blob.clone()).collect::<Vec<_>>())
            .collect();
        let cache = self.cache(&job);
        let discarding = spawn_blocking(move || {
            for file in plan.files.iter().filter(|file| !wanted_elsewhere.contains(&file.blob)) {
                // The run that was ended lets go of its files within moments.
                for _ in 0..50 {
                    match discard(&cache, &file.blob) {
                        Ok(true) => break,
                        Ok(false) => std::thread::sleep(std::time::Duration::from_millis(20)),
                        Err(error) => {
                            tracing::warn!(file = %file.path, %error, "a part of a download cannot be deleted");
                            break;
                        }
                    }
                }
            }
        });
        let _ = discarding.await;
        Ok(())
    }

    /// Counts changes: whoever waits for the next one then looks at [`Downloads::list`]. At most five a second and
    /// download, none while nothing happens.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.shared.means.news.subscribe()
    }

    /// Every download that completes from now on.
    pub fn completions(&self) -> broadcast::Receiver<Download> {
        self.shared.completed.subscribe()
    }

    /// The hub that is downloaded from.
    pub fn hub(&self) -> &Hub {
        &self.shared.means.hub
    }

    /// Tells everything to stand still, and does not wait for it.
    pub fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Lets everything stand still, remembers it, and returns when all tasks have ended. What ran goes on when the next
    /// process opens the same state file.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn jobs(&self) -> MutexGuard<'_, Vec<Arc<Job>>> {
        self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self, id: &str) -> Result<Arc<Job>, DownloadError> {
        let found = self.jobs().iter().find(|job| job.id == id).cloned();
        found.ok_or_else(|| DownloadError::Unknown(id.chars().filter(|c| !c.is_control()).take(40).collect()))
    }

    fn cache(&self, job: &Job) -> RepoCache {
        RepoCache::new(&self.shared.means.hub.settings().cache, &job.plan().repo)
    }

    /// A new job for a plan, unless somebody else has just made one.
    fn insert(&self, plan: Plan) -> Arc<Job> {
        let mut jobs = self.jobs();
        if let Some(same) = jobs.iter().find(|job| job.plan().is_same(&plan)) {
            return same.clone();
        }
        let id = format!("{:012x}", rand::random::<u64>() & 0xffff_ffff_ffff);
        let job = Arc::new(Job::new(id, SystemTime::now(), plan, &self.shared.means));
        jobs.push(job.clone());
        job
    }

    /// Starts a job's run, if it has none.
    async fn go(&self, job: &Arc<Job>) -> Result<(), DownloadError> {
        if job.is_running() {
            return Ok(());
        }
        self.check_space(&job.plan()).await?;
        let (looking, cache) = (job.clone(), self.cache(job));
        let _ = spawn_blocking(move || looking.look(&cache)).await;
        self.spawn(job.clone());
        self.save().await;
        Ok(())
    }

    fn spawn(&self, job: Arc<Job>) {
        let Some(run) = job.begin(&self.shared.stop) else { return };
        let this = self.clone();
        self.shared.tasks.spawn(async move {
            let completed = job.clone().run(this.shared.means.clone(), run).await;
            // What the end of the process has interrupted stays remembered as running, so that it goes on.
            if completed || !this.shared.stop.is_cancelled() {
                this.save().await;
            }
            if completed {
                let _ = this.shared.completed.send(job.view());
            }
        });
    }

    async fn check_space(&self, plan: &Plan) -> Result<(), DownloadError> {
        let running: Vec<Arc<Plan>> =
            self.jobs().iter().filter(|job| job.is_running()).map(|job| job.plan()).collect();
        let cache = self.shared.means.hub.settings().cache.clone();
        let plan = plan.clone();
        let checking = spawn_blocking(move || {
            let missing = |plan: &Plan| space::missing(&RepoCache::new(&cache, &plan.repo), plan);
            let own = missing(&plan);
            if own == 0 {
                return Ok(());
            }
            let others = running.iter().filter(|other| !other.is_same(&plan)).map(|other| missing(other));
            space::check(&cache, others.fold(own, u64::saturating_add))
        });
        checking.await.unwrap_or(Err(DownloadError::Stopping))
    }

    /// Remembers what is unfinished.
    async fn save(&self) {
        let _saving = self.shared.saving.lock().await;
        let jobs = self.jobs().clone();
        let unfinished = jobs.iter().filter(|job| !matches!(job.phase(), Phase::Completed));
        let known: Vec<Remembered> = unfinished
            .map(|job| Remembered {
                id: job.id.clone(),
                created_at: job.created_at,
                paused: matches!(job.phase(), Phase::Paused | Phase::Failed(_)),
                plan: (*job.plan()).clone(),
            })
            .collect();
        let store = self.shared.store.clone();
        let _ = spawn_blocking(move || store.save(&known)).await;
    }
}
