//! `Control`: owns a configuration, a loader and a server that runs or does not, and tells the truth about it either way.
//!
//! The menu bar app drives its server through this, so that the tray, the menu and the dashboard outlive a server that
//! was stopped or could not be started. [`Surface`] is the same over HTTP, for the dashboard in the app's own window.

mod desktop;
mod door;
mod launch;
pub(crate) mod routes;
mod surface;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::{Mutex, RwLock};
use perch_protocol::{Phase, Problem, ServerState, State, Status};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError};
use crate::error::ApiError;
use crate::handle::{ServerHandle, StartError};
use crate::loader::Loader;
use crate::logs::LogBuffer;
use crate::pool::ModelPool;
pub use desktop::Desktop;
pub(crate) use door::Door;
use launch::{free_port, problem};
pub use surface::Surface;

/// How long running answers may go on once the server is told to stop.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Where a server's configuration and its backends come from. Asked at every start, so that a changed file counts.
pub trait Compose: Send + Sync + 'static {
    /// The configuration as it is now.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key, variable or file.
    fn config(&self) -> Result<Config, ConfigError>;

    /// What loads the models of a server with this configuration.
    fn loader(&self, config: &Config) -> Arc<dyn Loader>;

    /// The log that the dashboard shows.
    fn logs(&self) -> LogBuffer;
}

/// Why a server was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// It cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It runs on another port than the one that was asked for.
    #[error("the server runs on {url} already; stop it before you start it on another port")]
    Running {
        /// Where it runs.
        url: String,
    },
    /// Starting it failed in a way that nobody foresaw.
    #[error("starting the server failed unexpectedly; the log says more")]
    Panicked,
}

/// What there is to see of a server, running or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Whether it runs.
    pub server: ServerState,
    /// What it is doing.
    pub status: Status,
}

/// A server that can be started and stopped. Clones are the same one.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    compose: Box<dyn Compose>,
    /// Held while the server starts or stops, so that one thing happens after the other.
    server: tokio::sync::Mutex<Option<ServerHandle>>,
    /// The way into the running server.
    door: RwLock<Option<(Door, ModelPool)>>,
    /// Somebody chose this port over the configured one.
    port: Mutex<Option<u16>>,
    seen: watch::Sender<Snapshot>,
    tasks: TaskTracker,
}

impl Control {
    /// A stopped server. Nothing of `compose` is asked before [`Control::start`].
    pub fn new(compose: impl Compose) -> Self {
        let seen = Snapshot { server: ServerState::default(), status: blank(State::Stopped, None) };
        let inner = Inner {
            compose: Box::new(compose),
            server: tokio::sync::Mutex::default(),
            door: RwLock::default(),
            port: Mutex::default(),
            seen: watch::Sender::new(seen),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What there is to see, and every change of it.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.inner.seen.subscribe()
    }

    /// What there is to see now.
    pub fn now(&self) -> Snapshot {
        self.inner.seen.borrow().clone()
    }

    /// The models of the running server.
    pub fn pool(&self) -> Option<ModelPool> {
        self.inner.door.read().as_ref().map(|(_, pool)| pool.clone())
    }

    /// Starts the server; on `port`, if given, now and at every later start. A server that runs already is left alone.
    ///
    /// # Errors
    /// [`ControlError`]; what is seen says the same, and a port that is free where that was the reason.
    pub async fn start(&self, port: Option<u16>) -> Result<ServerState, ControlError> {
        let mut server = self.inner.server.lock().await;
        if let Some(running) = server.as_ref() {
            return match port {
                Some(port) if running.address().port() != port => {
                    Err(ControlError::Running { url: running.url() })
                }
                _ => Ok(self.now().server),
            };
        }
        self.inner.launch(&mut server, port).await
    }

    /// Stops the server, with [`DRAIN`] for running answers. One that does not run is left alone; one that could not be
    /// started is no longer in error.
    pub async fn stop(&self) -> ServerState {
        let mut server = self.inner.server.lock().await;
        self.inner.end(&mut server).await;
        self.now().server
    }

    /// Stops the server if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Control::start`].
    pub async fn restart(&self, port: Option<u16>) -> Result<ServerState, ControlError> {
        let mut server = self.inner.server.lock().await;
        self.inner.end(&mut server).await;
        self.inner.launch(&mut server, port).await
    }

    /// Stops the server for good, and returns when everything that belongs to it has ended.
    pub async fn shutdown(&self) {
        self.stop().await;
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Asks the running server something over its own API, as the dashboard would: the menu does what the dashboard does.
    ///
    /// # Errors
    /// Whatever the route answers, or `server_stopped`.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        self.door().ok_or_else(door::stopped)?.ask(method, path, body).await
    }

    fn door(&self) -> Option<Door> {
        self.inner.door.read().as_ref().map(|(door, _)| door.clone())
    }

    fn tasks(&self) -> &TaskTracker {
        &self.inner.tasks
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("server", &self.now().server).finish_non_exhaustive()
    }
}

impl Inner {
    /// Starts a server in an empty place.
    async fn launch(
        self: &Arc<Self>,
        server: &mut Option<ServerHandle>,
        port: Option<u16>,
    ) -> Result<ServerState, ControlError> {
        if port.is_some() {
            *self.port.lock() = port;
        }
        self.show(Phase::Starting, blank(State::Starting, None));
        let started = match self.config().await {
            Ok(config) => launch::start(config, self.compose.as_ref()).await,
            Err(error) => Err(StartError::Config(error).into()),
        };
        match started {
            Ok(handle) => {
                let url = handle.url();
                *self.door.write() = Some((handle.door(), handle.pool().clone()));
                let status = handle.status();
                self.seen.send_modify(|seen| {
                    let server =
                        ServerState { phase: Phase::Running, url: Some(url), ..ServerState::default() };
                    *seen = Snapshot { server, status: status.borrow().clone() };
                });
                self.tasks.spawn(follow(self.clone(), status));
                *server = Some(handle);
                Ok(self.seen.borrow().server.clone())
            }
            Err(error) => {
                tracing::error!("the server was not started: {error}");
                let problem = problem(&error);
                let free_port = free_port(&error).await;
                self.seen.send_modify(|seen| {
                    seen.server = ServerState {
                        phase: Phase::Failed,
                        error: Some(problem.clone()),
                        url: None,
                        free_port,
                    };
                    seen.status = blank(State::Error, Some(problem));
                });
                Err(error)
            }
        }
    }

    /// Ends the server, if there is one.
    async fn end(&self, server: &mut Option<ServerHandle>) {
        if let Some(running) = server.take() {
            self.seen.send_modify(|seen| seen.server.phase = Phase::Stopping);
            *self.door.write() = None;
            running.shutdown(DRAIN).await;
        }
        self.show(Phase::Stopped, blank(State::Stopped, None));
    }

    async fn config(self: &Arc<Self>) -> Result<Config, ConfigError> {
        let mut config = self.compose.config()?;
        if let Some(port) = *self.port.lock() {
            config.port = port;
        }
        Ok(config)
    }

    fn show(&self, phase: Phase, status: Status) {
        let server = ServerState { phase, ..ServerState::default() };
        self.seen.send_replace(Snapshot { server, status });
    }
}

/// Shows what the running server says of itself, for as long as it runs.
async fn follow(control: Arc<Inner>, mut status: watch::Receiver<Status>) {
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        let changed = control.seen.send_if_modified(|seen| {
            let is_ours = seen.server.phase == Phase::Running && now.state != State::Stopped;
            if is_ours {
                seen.status = now;
            }
            is_ours
        });
        if !changed {
            return;
        }
    }
}

/// The status of a server that does not run.
fn blank(state: State, error: Option<Problem>) -> Status {
    Status { state, error, version: env!("CARGO_PKG_VERSION").to_owned(), ..Status::default() }
}
