//! `Monitor`: puts the one [`Status`] together, and sends it to whoever watches.
//!
//! While nobody watches nothing is computed and nothing wakes up. While somebody does, changes go out at once (at most
//! ten a second), and numbers that only drift (rates, memory) once a second while there is work, else every three.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use perch_protocol::{ErrorCode, Health, ModelState, ModelStatus, Problem, Rates, Resources, State, Status};
use sysinfo::{
    MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System, get_current_pid,
};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::clock::millis;
use crate::pool::ModelPool;

/// Least time between two updates.
const PACE: Duration = Duration::from_millis(100);

/// Puts the status together.
pub(crate) struct Monitor {
    pool: ModelPool,
    activity: Arc<Activity>,
    url: String,
    started_at: u64,
    stopping: CancellationToken,
    sampler: Mutex<Sampler>,
    sender: watch::Sender<Status>,
    /// The server has ended.
    ended: AtomicBool,
    /// Somebody has begun to watch.
    watched: Notify,
}

impl Monitor {
    pub(crate) fn new(
        pool: ModelPool,
        activity: Arc<Activity>,
        url: String,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            pool,
            activity,
            url,
            started_at: millis(SystemTime::now()),
            stopping,
            sampler: Mutex::new(Sampler::new()),
            sender: watch::Sender::default(),
            ended: AtomicBool::new(false),
            watched: Notify::new(),
        }
    }

    /// Where clients find the server.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The status now.
    pub(crate) fn now(&self) -> Status {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        if self.ended.load(Ordering::Acquire) {
            return Status { version, ..Status::default() };
        }
        let models = self.pool.status();
        let requests = self.activity.counts();
        let error = trouble(&models, self.pool.default_model().as_deref());
        let loading = models.iter().any(|model| model.state == ModelState::Loading);
        let state = match () {
            () if error.is_some() => State::Error,
            () if loading && models.len() == 1 => State::Starting,
            () if requests.active > 0 => State::Active,
            () => State::Idle,
        };
        Status {
            state,
            error,
            version,
            url: Some(self.url.clone()),
            started_at: Some(self.started_at),
            rates: self.rates(),
            models,
            requests,
            resources: Some(self.resources()),
        }
    }

    /// What the process uses now.
    pub(crate) fn resources(&self) -> Resources {
        self.sampler.lock().sample()
    }

    /// Whether an answer could be had now.
    pub(crate) fn health(&self) -> Result<Health, Health> {
        let health = |status: &str, error| Health {
            status: status.to_owned(),
            error,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        if self.stopping.is_cancelled() {
            return Err(health("stopping", None));
        }
        match trouble(&self.pool.status(), self.pool.default_model().as_deref()) {
            Some(problem) => Err(health("error", Some(problem))),
            None => Ok(health("ok", None)),
        }
    }

    /// The status, and every change of it.
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        let receiver = self.sender.subscribe();
        self.sender.send_replace(self.now());
        self.watched.notify_one();
        receiver
    }

    /// The server has ended.
    pub(crate) fn stopped(&self) {
        self.ended.store(true, Ordering::Release);
        self.sender.send_replace(self.now());
    }

    /// Keeps the watchers up to date until the server stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let (mut pool, mut activity) = (self.pool.watch(), self.activity.watch());
        loop {
            if self.sender.receiver_count() == 0 {
                tokio::select! {
                    () = self.watched.notified() => {}
                    () = self.stopping.cancelled() => return,
                }
            }
            let drift = if self.activity.counts().active > 0 { 1 } else { 3 };
            tokio::select! {
                _ = pool.changed() => {}
                _ = activity.changed() => {}
                () = sleep(Duration::from_secs(drift)) => {}
                () = self.stopping.cancelled() => return,
            }
            sleep(PACE).await;
            pool.mark_unchanged();
            activity.mark_unchanged();
            self.sender.send_replace(self.now());
        }
    }

    fn rates(&self) -> Rates {
        let models = self.pool.all_loaded();
        // An engine remembers the rates of its last steps; nothing runs at them when nothing runs.
        let stats = models.iter().map(|model| model.engine.stats()).filter(|stats| stats.running > 0);
        stats.fold(Rates::default(), |sum, stats| Rates {
            prefill: sum.prefill + stats.prefill_tokens_per_s,
            decode: sum.decode + stats.decode_tokens_per_s,
        })
    }
}

/// What keeps the server from answering: a model whose engine is broken, or a default model that cannot be loaded. A
/// model that somebody asked for in vain is that request's affair.
fn trouble(models: &[ModelStatus], default: Option<&str>) -> Option<Problem> {
    let broken = models.iter().find(|model| match model.state {
        ModelState::Failed => model.loaded_at.is_some() || Some(&*model.id) == default,
        ModelState::Restarting | ModelState::Hung => true,
        ModelState::Loading | ModelState::Ready => false,
    })?;
    let unknown = || Problem {
        code: ErrorCode::EngineError.as_str().to_owned(),
        message: format!("`{}` does not answer", broken.id),
    };
    Some(broken.error.clone().unwrap_or_else(unknown))
}

/// Reads what this process uses.
struct Sampler {
    system: System,
    pid: Option<Pid>,
}

impl Sampler {
    fn new() -> Self {
        Self { system: System::new_with_specifics(RefreshKind::nothing()), pid: get_current_pid().ok() }
    }

    fn sample(&mut self) -> Resources {
        self.system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let mut resources = Resources {
            system_memory_bytes: self.system.total_memory(),
            available_memory_bytes: self.system.available_memory(),
            ..Resources::default()
        };
        let Some(pid) = self.pid else { return resources };
        let kinds = ProcessRefreshKind::nothing().with_memory().with_cpu();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kinds);
        if let Some(process) = self.system.process(pid) {
            resources.memory_bytes = process.memory();
            resources.cpu_percent = process.cpu_usage();
        }
        resources
    }
}
