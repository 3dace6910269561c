//! Starting a server on behalf of somebody who looks at a menu: what went wrong in the menu's words, and a way out.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use perch_protocol::{ErrorCode, Problem};
use tokio::net::TcpListener;

use super::{Compose, ControlError};
use crate::config::Config;
use crate::handle::{ServerHandle, StartError};
use crate::http::PortHolder;

/// How many ports are tried after one that is taken.
const TRIES: u16 = 50;

/// Starts a server. A panic on the way is an error like any other.
pub(super) async fn start(config: Config, compose: &dyn Compose) -> Result<ServerHandle, ControlError> {
    let loader = compose.loader(&config);
    let started =
        AssertUnwindSafe(ServerHandle::start_with_logs(config, loader, compose.logs())).catch_unwind().await;
    Ok(started.map_err(|_| ControlError::Panicked)??)
}

/// What is wrong, for people who have no command line before them.
pub(super) fn problem(error: &ControlError) -> Problem {
    let message = match error {
        ControlError::Start(StartError::PortTaken { address, holder }) => {
            let by = match holder {
                Some(PortHolder { name, pid }) => format!("{name} (process {pid})"),
                None => "another program".to_owned(),
            };
            format!("Port {} is taken by {by}", address.port())
        }
        error => error.to_string(),
    };
    Problem { code: code(error).as_str().to_owned(), message }
}

/// The code of an error.
pub(super) fn code(error: &ControlError) -> ErrorCode {
    match error {
        ControlError::Start(StartError::PortTaken { .. } | StartError::Bind { .. })
        | ControlError::Running { .. } => ErrorCode::Conflict,
        ControlError::Start(StartError::Config(_) | StartError::Exposed { .. }) => ErrorCode::InvalidValue,
        ControlError::Start(StartError::Model(_)) => ErrorCode::ModelNotFound,
        _ => ErrorCode::EngineError,
    }
}

/// The next free port, where the one that was asked for is taken.
pub(super) async fn free_port(error: &ControlError) -> Option<u16> {
    let ControlError::Start(StartError::PortTaken { address, .. }) = error else { return None };
    for port in (address.port().checked_add(1)?..=u16::MAX).take(TRIES.into()) {
        if TcpListener::bind((address.ip(), port)).await.is_ok() {
            return Some(port);
        }
    }
    None
}
