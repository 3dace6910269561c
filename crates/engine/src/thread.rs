//! The engine thread.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::shared::{QueueSlot, Shared};
use crate::validate::effective_limits;
use crate::{Backend, EngineConfig, EngineState, Event, GenerateRequest, Limits, StartError};

pub(crate) enum Command {
    Generate(Box<Submission>),
    Stop { deadline: Instant },
}

#[allow(dead_code)]
pub(crate) struct Submission {
    pub(crate) request: GenerateRequest,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) slot: Option<QueueSlot>,
}

pub(crate) struct Worker<F> {
    config: EngineConfig,
    build: F,
    shared: Arc<Shared>,
    commands: Receiver<Command>,
}

impl<F> Worker<F> {
    pub(crate) fn new(
        config: EngineConfig,
        build: F,
        shared: Arc<Shared>,
        commands: Receiver<Command>,
    ) -> Self {
        Self { config, build, shared, commands }
    }

    pub(crate) fn run<B, E>(self, loaded: oneshot::Sender<Result<Limits, StartError>>)
    where
        B: Backend,
        F: Fn() -> Result<B, E>,
        E: fmt::Display,
    {
        let built = (self.build)().map_err(|e| StartError::Load(e.to_string()));
        let _ = loaded.send(built.map(|b| effective_limits(&b.limits(), &self.config)));
        self.shared.set_state(EngineState::Idle);
        while let Ok(Command::Generate(_)) = self.commands.recv() {}
        self.shared.set_state(EngineState::Closed);
    }
}
