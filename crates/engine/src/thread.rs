//! The engine thread: builds the backend, feeds the engine, publishes what is going on, and builds the backend anew when
//! it fails. It sleeps whenever there is nothing to do.
//!
//! Invariants: the backend is built, used and dropped on this thread, and never are there two at a time; a panic in it
//! ends neither the thread nor the requests that were not running; when the thread ends, every request has its last
//! event and the state says why.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{Engine, Fatal, Submission};
use crate::pace::Pace;
use crate::rates::Rates;
use crate::shared::Shared;
use crate::validate::{check_limits, effective_limits};
use crate::{Backend, EngineConfig, EngineError, EngineState, EngineStats, Limits, StartError};

/// Longest pause before a restart.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What handles ask of the thread.
pub(crate) enum Command {
    /// Take in a request.
    Generate(Box<Submission>),
    /// End when nothing is left to do, at the latest at `deadline`.
    Stop { deadline: Instant },
}

/// Why a backend is no longer used.
enum Exit {
    /// The engine was told to stop, or nobody can reach it any more.
    Stopped,
    /// The backend failed.
    Failed(String),
}

/// The thread's own state.
pub(crate) struct Worker<F> {
    config: EngineConfig,
    build: F,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
    /// Set once the engine has been told to stop.
    deadline: Option<Instant>,
    rates: Rates,
    pace: Pace,
    failures: Failures,
    restarts: u64,
}

impl<F> Worker<F> {
    pub(crate) fn new(
        config: EngineConfig,
        build: F,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
    ) -> Self {
        let (rates, failures) = (Rates::default(), Failures::default());
        let pace = Pace::new(config.step_target, config.max_batch_tokens);
        Self { config, build, shared, commands, deadline: None, rates, pace, failures, restarts: 0 }
    }

    /// Serves requests with one backend until it fails or the engine stops.
    fn serve(&mut self, engine: &mut Engine, backend: &mut dyn Backend) -> Exit {
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(engine, command);
            }
            if self.must_stop(engine) {
                return Exit::Stopped;
            }
            if engine.is_idle() {
                match self.await_work(engine, backend) {
                    Ok(command) => self.obey(engine, command),
                    Err(exit) => return exit,
                }
                continue;
            }
            self.shared.set_state(EngineState::Active);
            self.shared.step_begins();
            let began = Instant::now();
            let step = unwinding(|| engine.step(backend));
            let prefilled = self.rates.note(began.elapsed(), engine.totals());
            engine.set_chunk_beside_streams(self.pace.note(began.elapsed(), prefilled));
            self.publish(engine);
            if let Err(message) = step.and_then(|done| done.map_err(|Fatal(message)| message)) {
                return Exit::Failed(message);
            }
        }
    }

    /// Sleeps until there is a command; after a while of idleness, the backend gives memory back.
    fn await_work(&mut self, engine: &mut Engine, backend: &mut dyn Backend) -> Result<Command, Exit> {
        engine.rest();
        self.shared.set_state(EngineState::Idle);
        match self.commands.recv_timeout(self.config.trim_after) {
            Ok(command) => return Ok(command),
            Err(RecvTimeoutError::Disconnected) => return Err(Exit::Stopped),
            Err(RecvTimeoutError::Timeout) => {}
        }
        unwinding(|| backend.trim()).map_err(Exit::Failed)?;
        self.commands.recv().map_err(|_| Exit::Stopped)
    }

    fn obey(&mut self, engine: &mut Engine, command: Command) {
        match command {
            Command::Generate(submission) => engine.submit(*submission),
            Command::Stop { deadline } => {
                self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
            }
        }
    }

    fn must_stop(&self, engine: &Engine) -> bool {
        self.deadline.is_some_and(|deadline| engine.is_idle() || Instant::now() >= deadline)
    }

    fn publish(&self, engine: &Engine) {
        let stats = EngineStats {
            prefill_tokens_per_s: self.rates.prefill(),
            decode_tokens_per_s: self.rates.decode(),
            restarts: self.restarts,
            ..engine.stats()
        };
        self.shared.publish(stats, self.rates.interval());
    }
}

impl<F, B, E> Worker<F>
where
    B: Backend,
    F: Fn() -> Result<B, E>,
    E: fmt::Display,
{
    /// The thread's life. `loaded` hears of the first build.
    pub(crate) fn run(mut self, loaded: oneshot::Sender<Result<Limits, StartError>>) {
        let mut backend = match self.first_build() {
            Ok(backend) => backend,
            Err(error) => {
                self.shared.set_state(EngineState::Failed { message: error.to_string() });
                let _ = loaded.send(Err(error));
                return;
            }
        };
        let limits = backend.limits();
        let mut engine = Engine::new(&limits, &self.config);
        self.shared.set_state(EngineState::Idle);
        let _ = loaded.send(Ok(effective_limits(&limits, &self.config)));

        let end = loop {
            match self.serve(&mut engine, &mut backend) {
                Exit::Stopped => {
                    engine.fail_all(&EngineError::Closed);
                    drop_guarded(backend);
                    break EngineState::Closed;
                }
                Exit::Failed(message) => {
                    engine.backend_failed(&message);
                    drop_guarded(backend);
                    match self.rebuild(&mut engine, &limits, message) {
                        Ok(rebuilt) => backend = rebuilt,
                        Err(end) => break end,
                    }
                }
            }
        };
        self.publish(&engine);
        // Requests still in the channel get their last event from their own `Generation`, which asks for the state.
        self.shared.set_state(end);
    }

    fn first_build(&self) -> Result<B, StartError> {
        let backend = self.build().map_err(StartError::Load)?;
        check_limits(&backend.limits(), &self.config).map_err(StartError::Config)?;
        Ok(backend)
    }

    fn build(&self) -> Result<B, String> {
        unwinding(|| (self.build)().map_err(|error| error.to_string())).flatten()
    }

    /// Builds the backend again after a failure, with longer and longer pauses, or says in which state the engine ends.
    fn rebuild(
        &mut self,
        engine: &mut Engine,
        limits: &Limits,
        mut message: String,
    ) -> Result<B, EngineState> {
        loop {
            self.failures.count(engine.totals().finished);
            tracing::error!(failures = self.failures.in_a_row, "the engine failed: {message}");
            if self.failures.in_a_row >= self.config.max_failures {
                engine.fail_all(&EngineError::Failed(message.clone()));
                return Err(EngineState::Failed { message });
            }
            self.publish(engine);
            let failures = self.failures.in_a_row;
            self.shared.set_state(EngineState::Restarting { message, failures });
            if !self.pause(engine) {
                engine.fail_all(&EngineError::Closed);
                return Err(EngineState::Closed);
            }
            self.restarts += 1;
            message = match self.build() {
                Ok(backend) if backend.limits() == *limits => return Ok(backend),
                Ok(_) => "the model has changed since it was loaded; load it again".to_owned(),
                Err(message) => message,
            };
        }
    }

    /// Waits before a restart, still taking in requests. False when the engine is to stop instead.
    fn pause(&mut self, engine: &mut Engine) -> bool {
        let doublings = self.failures.in_a_row.saturating_sub(1).min(16);
        let until = Instant::now() + (self.config.restart_backoff * (1 << doublings)).min(MAX_BACKOFF);
        loop {
            if self.must_stop(engine) {
                return false;
            }
            let wake = self.deadline.map_or(until, |deadline| until.min(deadline));
            match self.commands.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(command) => self.obey(engine, command),
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => return true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

/// Failures with no request finished in between.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    finished: u64,
}

impl Failures {
    /// One more, when `finished` requests have finished all in all.
    fn count(&mut self, finished: u64) {
        self.in_a_row = if finished > self.finished { 1 } else { self.in_a_row + 1 };
        self.finished = finished;
    }
}

/// Calls into a backend; a panic becomes its message.
fn unwinding<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panic_message(&*panic))
}

/// Drops a backend that may be broken.
fn drop_guarded<B>(backend: B) {
    if let Err(message) = unwinding(move || drop(backend)) {
        tracing::warn!("the backend panicked while it was dropped: {message}");
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message"))
}
