//! A server of a command's own, for as long as the command runs, and a client of it.

use std::sync::Arc;

use anyhow::Result;
use perch_backends::Backends;
use perch_server::{Config, ServerHandle};

use crate::client::Client;

/// Starts a server on a free port of this machine.
pub(crate) async fn start(mut config: Config) -> Result<(ServerHandle, Client)> {
    (config.host, config.port) = ("127.0.0.1".to_string(), 0);
    // Nobody else can reach this server for longer than the command takes, and it needs no key of its own.
    config.keys.clear();
    let backends = Arc::new(Backends::new(config.compute_threads()));
    let server = ServerHandle::start(config, backends).await?;
    let client = Client::new(&server.url(), None)?;
    Ok((server, client))
}
