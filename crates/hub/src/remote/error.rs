//! `HubError`: why the hub could not be asked, or what it refused.

use std::time::Duration;

use super::safe::BadName;

/// Why the hub could not be asked, or what it refused. Every message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// `HF_HUB_OFFLINE` is set.
    #[error("Perch is offline because HF_HUB_OFFLINE is set; unset it to use the hub")]
    Offline,
    /// The repository's terms must be accepted first.
    #[error("{}", gated(repo, url, *with_token))]
    Gated {
        /// `author/name`.
        repo: String,
        /// Where to accept them.
        url: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The token is not good, or not for this.
    #[error(
        "the hub refused the token; make a new one with read access at {endpoint}/settings/tokens and set HF_TOKEN, or unset it"
    )]
    BadToken {
        /// The hub's address.
        endpoint: String,
    },
    /// There is no such thing, or it is private.
    #[error("{}", not_found(what, *with_token))]
    NotFound {
        /// What was asked for: "the repository `a/b`".
        what: String,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// Too many requests.
    #[error(
        "the hub answers no more requests for {} s; wait, or set HF_TOKEN: the hub allows more to users it knows",
        retry_after.as_secs()
    )]
    RateLimited {
        /// How long to wait.
        retry_after: Duration,
    },
    /// No connection, or it broke.
    #[error("cannot reach {host}: {reason}; check the network, proxies and HF_ENDPOINT")]
    Unreachable {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// The server failed.
    #[error("{host} answered {status}; try again later")]
    Failed {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
    },
    /// The answer is none that a hub sends.
    #[error("the hub's answer cannot be used: {0}")]
    Invalid(String),
    /// What the user asked for is no name.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
}

impl HubError {
    /// Whether the same request may succeed a little later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Unreachable { .. } => true,
            // 403 comes from a host that the hub has sent us to, whose signed address has run out.
            Self::Failed { status, .. } => *status >= 500 || matches!(status, 403 | 408),
            _ => false,
        }
    }
}

fn gated(repo: &str, url: &str, with_token: bool) -> String {
    let then = match with_token {
        true => "your token's user has not been granted access yet",
        false => "then set HF_TOKEN to a token of the same user",
    };
    format!("`{repo}` is gated: accept its terms at {url}; {then}")
}

fn not_found(what: &str, with_token: bool) -> String {
    match with_token {
        true => format!("the hub has no {what}, or not for this token; check the spelling"),
        false => format!("the hub has no {what}; check the spelling, or set HF_TOKEN if it is private"),
    }
}
