//! `ServerHandle`: starts the server, tells where it listens and how it is, and ends it.

use std::net::SocketAddr;

use crate::config::ConfigError;
use crate::http::PortHolder;

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
