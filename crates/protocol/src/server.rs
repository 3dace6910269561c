//! `/api/server`: whether the app's server runs, and turning it on and off; `/api/app`: the app's place in the session. Only
//! the app has these routes; they go on answering while the server is stopped.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Problem;

/// Where the app's server is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not running: nobody started it, or somebody stopped it.
    #[default]
    Stopped,
    /// Reading its configuration and taking its port.
    Starting,
    /// Listening.
    Running,
    /// Letting the answers that run come to their end, for some seconds at most.
    Stopping,
    /// It could not be started; [`ServerState::error`] says why.
    Failed,
}

/// Answer of `GET /api/server` and of the routes that change it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerState {
    /// Where it is in its life.
    pub phase: Phase,
    /// Why it could not be started.
    pub error: Option<Problem>,
    /// `http://127.0.0.1:8080`, while it listens.
    pub url: Option<String>,
    /// A port that is free, where the configured one is taken.
    pub free_port: Option<u16>,
}

/// Body of `POST /api/server/start` and `/api/server/restart`; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct StartRequest {
    /// Listen on this port instead of the configured one, until the app ends.
    pub port: Option<u16>,
}

/// Answer of `GET` and `PATCH /api/app`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppState {
    /// Whether the system starts the app with the session, by the system's own account.
    pub launch_at_login: bool,
}

/// Body of `PATCH /api/app`. What is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct AppPatch {
    /// Whether the system is to start the app with the session.
    pub launch_at_login: Option<bool>,
}
