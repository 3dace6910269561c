//! `EngineHandle`: the cloneable, backend-erased door to a model's engine thread, and `Generation`, a request's events.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::Stream;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::engine::Submission;
use crate::shared::Shared;
use crate::thread::{Command, Worker};
use crate::validate::validate;
use crate::{Backend, EngineConfig, EngineError, EngineState, EngineStats, Event, GenerateRequest, Limits};

/// Why an engine could not be started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A size in the configuration cannot work; the message names it.
    #[error("{0}")]
    Config(String),
    /// The backend could not be built.
    #[error("the model could not be loaded: {0}")]
    Load(String),
    /// The system gave no thread.
    #[error("the engine's thread could not be started: {0}")]
    Thread(String),
}

/// A door to one model's engine thread. Clones lead to the same thread. Call [`EngineHandle::shutdown`] to end it and
/// wait for it; when all handles are dropped instead, it finishes what it has begun and then ends by itself.
#[derive(Clone)]
pub struct EngineHandle {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    limits: Limits,
    config: EngineConfig,
    shared: Arc<Shared>,
    commands: Sender<Command>,
    thread: Mutex<Joining>,
}

/// The thread, and the task that waits for its end once somebody wants it.
struct Joining {
    thread: Option<JoinHandle<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl EngineHandle {
    /// Starts the thread of the model `name`, calls `build` there and resolves when the backend is ready. `build` is
    /// called again after a failure. When the future is dropped early, the thread ends once `build` returns.
    ///
    /// # Errors
    /// [`StartError`] when `config` cannot work, the thread cannot be made, or `build` fails or panics.
    pub async fn start<B, F, E>(name: String, config: EngineConfig, build: F) -> Result<Self, StartError>
    where
        B: Backend + 'static,
        F: Fn() -> Result<B, E> + Send + 'static,
        E: fmt::Display,
    {
        let shared = Arc::new(Shared::new(config.queue_limit, config.kv_budget_bytes));
        let (commands, received) = channel();
        let (loaded, limits) = oneshot::channel();
        let worker = Worker::new(config.clone(), build, shared.clone(), received);
        let thread = std::thread::Builder::new()
            .name(format!("engine {}", name.replace('\0', "")))
            .spawn(move || worker.run(loaded))
            .map_err(|e| StartError::Thread(e.to_string()))?;
        let limits =
            limits.await.map_err(|_| StartError::Load("the engine's thread ended".to_owned())).flatten()?;
        let thread = Mutex::new(Joining { thread: Some(thread), task: None });
        Ok(Self { inner: Arc::new(Inner { name, limits, config, shared, commands, thread }) })
    }

    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Queues a request; never blocks. Dropping the [`Generation`] cancels it within one step.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`], what validation finds ([`EngineError::Invalid`], [`EngineError::ContextLength`],
    /// [`EngineError::KvBudget`]), or [`EngineError::Failed`] and [`EngineError::Closed`] when nothing runs any more.
    pub fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        let Inner { limits, config, shared, commands, .. } = &*self.inner;
        if let Some(refusal) = shared.refusal() {
            return Err(refusal);
        }
        validate(&request, limits, config)?;
        let slot = shared.enter_queue()?;
        let (generation, events) = Generation::new(request.n, shared.clone());
        let submission = Submission { request, events, slot: Some(slot) };
        // A thread that has just ended is told of by the generation's own last event.
        let _ = commands.send(Command::Generate(Box::new(submission)));
        Ok(generation)
    }

    /// A snapshot, at most one step old.
    pub fn stats(&self) -> EngineStats {
        self.inner.shared.stats()
    }

    /// Announces every change of state.
    pub fn watch(&self) -> watch::Receiver<EngineState> {
        self.inner.shared.watch()
    }

    /// The backend's limits, with the context length that this engine can really serve: the least of the model's,
    /// the configured one and what the KV budget holds.
    pub fn limits(&self) -> Limits {
        self.inner.limits.clone()
    }

    /// Ends the thread after the step in progress and waits for it; what still runs or waits gets
    /// [`EngineError::Closed`]. Calling it again, also concurrently, waits as well and does nothing more.
    pub async fn shutdown(&self) {
        self.drain(Duration::ZERO).await;
    }

    /// As [`EngineHandle::shutdown`], but what was taken in may finish for at most `grace`; nothing new is taken in.
    pub async fn drain(&self, grace: Duration) {
        self.inner.shared.close_door();
        let _ = self.inner.commands.send(Command::Stop { deadline: Instant::now() + grace });
        // The lock is held until the thread has ended, so that every caller waits for it; the task outlives a caller
        // that gives up.
        let mut joining = self.inner.thread.lock().await;
        if let Some(thread) = joining.thread.take() {
            joining.task = Some(tokio::task::spawn_blocking(move || drop(thread.join())));
        }
        if let Some(task) = &mut joining.task {
            let _ = task.await;
            joining.task = None;
        }
    }
}

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineHandle").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// The events of one request, as a stream: see [`Event`] for their order. Dropping it cancels the request.
///
/// Events wait in a channel of their own, which `max_tokens` and `n` bound, so a slow reader delays nobody.
pub struct Generation {
    events: mpsc::UnboundedReceiver<Event>,
    /// Choices that have not finished; 0 after the last event.
    live: usize,
    shared: Arc<Shared>,
}

impl Generation {
    /// A generation of `n` choices, and the sender of its events.
    pub(crate) fn new(n: usize, shared: Arc<Shared>) -> (Self, mpsc::UnboundedSender<Event>) {
        let (sender, events) = mpsc::unbounded_channel();
        (Self { events, live: n, shared }, sender)
    }

    /// The next event; `None` after the last one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.live == 0 {
            return Poll::Ready(None);
        }
        let event = ready!(self.events.poll_recv(cx)).unwrap_or_else(|| {
            // The thread ended without reaching this request: it was sent at the very end.
            Event::Failed(self.shared.refusal().unwrap_or(EngineError::Closed))
        });
        match event {
            Event::Finished { .. } => self.live -= 1,
            Event::Failed(_) => self.live = 0,
            _ => {}
        }
        Poll::Ready(Some(event))
    }
}

impl Stream for Generation {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("live", &self.live).finish_non_exhaustive()
    }
}
