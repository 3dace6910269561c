//! `ServerHandle`: starts the server, tells where it listens and how it is, and ends it.
//!
//! Every task and thread of a server belongs to its handle and has ended when [`ServerHandle::shutdown`] returns.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use perch_hub::NotFound;
use perch_protocol::Status;
use perch_usage::Recorder;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::activity::Activity;
use crate::app::{App, router};
use crate::chats::Chats;
use crate::config::{Config, ConfigError};
use crate::control::Door;
use crate::http::{PortHolder, Signals, bind, serve};
use crate::hub::Remote;
use crate::library::{LastUsed, LocalLibrary};
use crate::loader::Loader;
use crate::logs::LogBuffer;
use crate::metrics::Metrics;
use crate::pool::{Catalogue, ModelPool};
use crate::security::{Allowed, Guard, KeyRing};
use crate::settings::{Live, SettingsStore};
use crate::status::Monitor;
use crate::upstream::Upstreams;

/// Time for answers that were told to end to say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another program listens on the port.
    #[error("{}", taken(address, holder.as_ref()))]
    PortTaken {
        /// The address that was asked for.
        address: SocketAddr,
        /// Who has it, if the system says.
        holder: Option<PortHolder>,
    },
    /// Other machines could reach the server, and no key keeps them out.
    #[error(
        "listening on {host} would let other machines in without a key; set `api_key` (or PERCH_API_KEY), or listen on \
         127.0.0.1"
    )]
    Exposed {
        /// The host that was asked for.
        host: String,
    },
    /// The default model is not there.
    #[error(transparent)]
    Model(#[from] NotFound),
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address that was asked for.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

fn taken(address: &SocketAddr, holder: Option<&PortHolder>) -> String {
    let port = address.port();
    let by = match holder {
        Some(PortHolder { name, pid }) => format!("by {name} (process {pid})"),
        None => "by another program".to_owned(),
    };
    format!("port {port} is taken {by}; stop it, or choose another port with --port (0 picks a free one)")
}

/// A running server. Dropping it ends the server without ceremony; [`ServerHandle::shutdown`] lets it finish.
pub struct ServerHandle {
    address: SocketAddr,
    pool: ModelPool,
    remote: Remote,
    chats: Chats,
    usage: Arc<Recorder>,
    monitor: Arc<Monitor>,
    router: Router,
    signals: Signals,
    tasks: TaskTracker,
    /// Held while shutting down, so that a second caller waits for the first.
    ending: Mutex<()>,
}

impl ServerHandle {
    /// Binds, and serves from then on. The default model that is named, and models with `preload`, begin to load.
    ///
    /// # Errors
    /// [`StartError`]: the configuration, the address or the default model cannot be used.
    pub async fn start(config: Config, loader: Arc<dyn Loader>) -> Result<Self, StartError> {
        Self::start_with_logs(config, loader, LogBuffer::default()).await
    }

    /// The same; the dashboard shows the lines of `logs`, which whoever started logging has made a part of it.
    ///
    /// # Errors
    /// As [`ServerHandle::start`].
    pub async fn start_with_logs(
        config: Config,
        loader: Arc<dyn Loader>,
        logs: LogBuffer,
    ) -> Result<Self, StartError> {
        config.check()?;
        let listener = bind(&config).await?;
        let failed = |source| StartError::Bind { address: config.host.clone(), source };
        let address = listener.local_addr().map_err(failed)?;
        let built_in = loader.built_in();
        let opened = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || Catalogue::open(&config, built_in)).await
        };
        let catalogue = opened.map_err(|panic| failed(std::io::Error::other(panic)))??;

        let signals = Signals::default();
        let tasks = TaskTracker::new();
        let pool = ModelPool::new(&config, catalogue, loader);
        let metrics = Arc::new(Metrics::new());
        let usage = &config.usage;
        let usage = Arc::new(Recorder::new(&config.data_dir, usage.enabled, usage.retention_days));
        let activity = Arc::new(Activity::new(metrics.clone(), usage.clone()));
        let url = format!("http://{}", shown(&config.host, address));
        let monitor = Arc::new(Monitor::new(pool.clone(), activity.clone(), url, signals.stop.clone()));
        let http = Arc::new(config.http.clone());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let allowed = Allowed::new(&config.host, address, &config.allowed_hosts, &config.allowed_origins);
        let guards = Arc::new(Guard::new(allowed, KeyRing::new(&config.keys)));
        let settings = {
            let live = Live { guard: guards.clone(), usage: usage.clone() };
            let config = config.clone();
            tokio::task::spawn_blocking(move || SettingsStore::open(&config, Some(live))).await
        };
        let settings = Arc::new(settings.map_err(|panic| failed(std::io::Error::other(panic)))?);
        let chats = Chats::new(&config.data_dir, config.chat.clone(), tasks.clone());
        let (library, last_used) = {
            let config = config.clone();
            let open = move || {
                let used = LastUsed::open(config.data_dir.join("cache").join("last-used.json"));
                (LocalLibrary::new(&config).with_built_in(built_in), Arc::new(used))
            };
            let opened = tokio::task::spawn_blocking(open).await;
            opened.map_err(|panic| failed(std::io::Error::other(panic)))?
        };
        tasks.spawn(last_used.clone().keep(activity.clone(), signals.stop.clone()));
        let remote = {
            // Unfinished downloads go on as tasks of this runtime.
            let (config, runtime) = (config.clone(), tokio::runtime::Handle::current());
            tokio::task::spawn_blocking(move || {
                let _inside = runtime.enter();
                Remote::open(&config)
            })
            .await
        };
        let remote = remote.map_err(|panic| failed(std::io::Error::other(panic)))?;
        let app = App {
            remote: remote.clone(),
            upstreams: Upstreams::default(),
            library,
            last_used,
            chats: chats.clone(),
            settings,
            logs,
            pool: pool.clone(),
            activity,
            metrics,
            usage: usage.clone(),
            monitor: monitor.clone(),
            http: http.clone(),
            text_work: Arc::new(Semaphore::new(cores)),
            stop: signals.stop.clone(),
            abort: signals.abort.clone(),
        };
        let router = router(app, guards);
        tasks.spawn(serve(listener, router.clone(), http, signals.clone(), tasks.clone()));
        tasks.spawn(monitor.clone().run());
        tasks.spawn(signals.stop.clone().run_until_cancelled_owned(remote.clone().announce(pool.clone())));
        pool.preload();
        let ending = Mutex::new(());
        Ok(Self { address, pool, remote, chats, usage, monitor, router, signals, tasks, ending })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find it: `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        self.monitor.url().to_owned()
    }

    /// What it is doing, and every change of that.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.monitor.watch()
    }

    /// Its models.
    pub fn pool(&self) -> &ModelPool {
        &self.pool
    }

    /// The way in for this process itself.
    pub(crate) fn door(&self) -> Door {
        Door { router: self.router.clone(), tasks: self.tasks.clone(), signals: self.signals.clone() }
    }

    /// Takes no more requests, lets those that run finish for at most `deadline`, ends the others with an error, and
    /// returns when all tasks and engines have ended. Calling it again waits as well.
    pub async fn shutdown(&self, deadline: Duration) {
        self.signals.stop.cancel();
        let _ending = self.ending.lock().await;
        self.tasks.close();
        if timeout(deadline, self.tasks.wait()).await.is_err() {
            self.signals.abort.cancel();
            let _ = timeout(LAST_WORDS, self.tasks.wait()).await;
            self.signals.kill.cancel();
            self.tasks.wait().await;
        }
        self.chats.close().await;
        let usage = self.usage.clone();
        // A panic there has been logged; there is nobody left to tell.
        let _ = tokio::task::spawn_blocking(move || usage.close()).await;
        self.remote.shutdown().await;
        self.pool.shutdown().await;
        self.monitor.stopped();
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.signals.stop.cancel();
        self.signals.abort.cancel();
        self.signals.kill.cancel();
        self.remote.stop();
        self.pool.stop();
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The address as a client would write it: the host by the name that was configured, unless that means all addresses.
fn shown(host: &str, address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("{}:{}", if address.is_ipv4() { "127.0.0.1" } else { "[::1]" }, address.port());
    }
    match host.parse::<std::net::IpAddr>() {
        Ok(_) => address.to_string(),
        Err(_) => format!("{host}:{}", address.port()),
    }
}
