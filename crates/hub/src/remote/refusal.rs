//! What the hub's refusals mean: statuses and `x-error-code` as [`HubError`]s.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, Url};

use super::client::host;
use super::error::HubError;
use super::safe::RepoId;

/// How long to wait where a server does not say.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest time that a server is believed.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

/// What a request is about, for its errors.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// The list of models.
    Search,
    /// A repository, at a revision.
    Repo(&'a RepoId, &'a str),
    /// A file of a repository.
    File(&'a RepoId, &'a str),
}

impl Subject<'_> {
    fn repo(self) -> Option<String> {
        match self {
            Self::Search => None,
            Self::Repo(repo, _) | Self::File(repo, _) => Some(repo.to_string()),
        }
    }

    fn named(self, code: &str) -> String {
        match self {
            Self::Search => "such list".to_owned(),
            Self::Repo(repo, revision) if code == "RevisionNotFound" => {
                format!("revision `{revision}` of `{repo}`")
            }
            Self::File(repo, path) if code == "EntryNotFound" => format!("file `{path}` in `{repo}`"),
            Self::Repo(repo, _) | Self::File(repo, _) => format!("repository `{repo}`"),
        }
    }
}

/// The error that an answer other than success is.
pub(super) fn refusal(
    response: Response,
    endpoint: &Url,
    with_token: bool,
    subject: Subject<'_>,
) -> HubError {
    let headers = response.headers();
    let code = headers.get("x-error-code").and_then(|code| code.to_str().ok()).unwrap_or_default();
    let address = endpoint.as_str().trim_end_matches('/');
    let not_found = || HubError::NotFound { what: subject.named(code), with_token };
    match (response.status().as_u16(), code) {
        (_, "GatedRepo") => gated(subject, address, with_token),
        (_, "RepoNotFound" | "RevisionNotFound" | "EntryNotFound") | (404 | 410, _) => not_found(),
        // The hub says 401 for what is not there as well, so as not to tell what is private.
        (401, _) if with_token => HubError::BadToken { endpoint: address.to_owned() },
        (401, _) => not_found(),
        (403, _) => gated(subject, address, with_token),
        (429, _) => HubError::RateLimited { retry_after: retry_after(headers) },
        (status, _) => HubError::Failed { host: host(response.url()), status },
    }
}

fn gated(subject: Subject<'_>, endpoint: &str, with_token: bool) -> HubError {
    match subject.repo() {
        Some(repo) => HubError::Gated { url: format!("{endpoint}/{repo}"), repo, with_token },
        None => HubError::BadToken { endpoint: endpoint.to_owned() },
    }
}

/// `Retry-After` in seconds, or the `t` of `RateLimit: "api";r=0;t=55`.
fn retry_after(headers: &HeaderMap) -> Duration {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let plain = text(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse::<u64>().ok());
    let draft = || {
        let parts = text("ratelimit")?.split(';');
        parts.filter_map(|part| part.trim().strip_prefix("t=")).find_map(|t| t.parse::<u64>().ok())
    };
    plain.or_else(draft).map_or(PATIENCE, Duration::from_secs).clamp(Duration::from_secs(1), MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn waiting_is_believed_within_reason() {
        let wait = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            retry_after(&headers).as_secs()
        };
        assert_eq!(wait("retry-after", "7"), 7);
        assert_eq!(wait("ratelimit", "\"api\";r=0;t=55"), 55);
        assert_eq!(wait("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), 60);
        assert_eq!(wait("retry-after", "99999999"), 3_600);
        assert_eq!(wait("retry-after", "0"), 1);
    }
}
