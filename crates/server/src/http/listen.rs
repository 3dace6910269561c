//! Binds the address, and says who holds it when somebody else does.

use std::io::ErrorKind;
use std::net::SocketAddr;

use listeners::{Protocol, SocketState};
use tokio::net::{TcpListener, lookup_host};

use crate::config::Config;
use crate::handle::StartError;

/// A program that listens on the port that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHolder {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

/// The addresses that `config.host` stands for.
///
/// # Errors
/// [`StartError::Exposed`] where others could reach the server and no key is configured; [`StartError::Bind`] where the
/// name stands for nothing.
pub(crate) async fn addresses(config: &Config) -> Result<Vec<SocketAddr>, StartError> {
    let host = config.host.trim_matches(['[', ']']);
    let found = lookup_host((host, config.port)).await;
    let found =
        found.map_err(|source| StartError::Bind { address: format!("{host}:{}", config.port), source })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if !config.needs_key() && addresses.iter().any(|address| !address.ip().is_loopback()) {
        return Err(StartError::Exposed { host: config.host.clone() });
    }
    Ok(addresses)
}

/// Binds `config.host` and `config.port`: the first of the host's addresses that can be bound.
///
/// # Errors
/// [`StartError::PortTaken`], naming the program that has the port; [`StartError::Exposed`] where others could reach the
/// server and no key is configured; [`StartError::Bind`] for all else.
pub(crate) async fn bind(config: &Config) -> Result<TcpListener, StartError> {
    let host = config.host.trim_matches(['[', ']']);
    let fail = |source| StartError::Bind { address: format!("{host}:{}", config.port), source };
    let mut last = std::io::Error::new(ErrorKind::AddrNotAvailable, "the host has no address");
    for address in addresses(config).await? {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                // Reading other processes' tables takes a while on a busy machine.
                let holder = tokio::task::spawn_blocking(move || holder_of(address.port())).await;
                return Err(StartError::PortTaken { address, holder: holder.ok().flatten() });
            }
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

/// The program that listens on `port`; `None` where the system does not say (it belongs to another user).
fn holder_of(port: u16) -> Option<PortHolder> {
    let listener = listeners::get_all().ok()?.into_iter().find(|listener| {
        listener.socket.port() == port
            && listener.protocol == Protocol::TCP
            && listener.state == SocketState::Listen
    })?;
    Some(PortHolder { name: listener.process.name, pid: listener.process.pid })
}
