//! `Hub`: the door to the Hugging Face hub. Sends requests, follows redirects, and turns refusals into [`HubError`]s.
//!
//! Invariants: the token goes to the endpoint's own origin and nowhere else, redirects included; a redirect never leaves
//! encryption; no answer is read beyond its limit; nothing at all is sent while offline.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Client, ClientBuilder, Method, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;

use super::error::HubError;
use super::refusal::{Subject, refusal};
use super::settings::HubSettings;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Redirects that are followed. The hub needs two.
const MAX_REDIRECTS: usize = 8;
/// Longest answer of the API. A repository of 10,000 files has about 4 MB.
const MAX_JSON: usize = 32 << 20;

/// The door to the hub. Cheap to clone; connects when it is first asked.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: HubSettings,
    /// Made at first use: reading the system's certificates takes time and memory.
    client: OnceLock<Result<Client, HubError>>,
}

/// An answer that is not a refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The answer of whoever answered at last.
    pub(crate) response: Response,
    /// What the endpoint itself said on the way, such as `x-linked-etag`.
    pub(crate) hub_headers: HeaderMap,
}

impl Hub {
    /// A door by these settings.
    pub fn new(settings: HubSettings) -> Self {
        Self { shared: Arc::new(Shared { settings, client: OnceLock::new() }) }
    }

    /// Where the hub is and where its files are kept.
    pub fn settings(&self) -> &HubSettings {
        &self.shared.settings
    }

    /// An address below the endpoint: its path segments, each escaped.
    pub(crate) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.shared.settings.endpoint.clone();
        // An http(s) URL with a host always has a path to extend.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Reads a JSON answer, and the headers that came with it.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        url: Url,
        subject: Subject<'_>,
    ) -> Result<(T, HeaderMap), HubError> {
        let answer = self.send(Method::GET, url, HeaderMap::new(), subject).await?;
        let headers = answer.response.headers().clone();
        let (bytes, cut) = read(answer.response, MAX_JSON).await?;
        if cut {
            return Err(HubError::Invalid(format!("it is longer than {MAX_JSON} bytes")));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| HubError::Invalid(format!("it is not what was asked for ({error})")))?;
        Ok((value, headers))
    }

    /// Reads at most `limit` bytes of a text; says whether there was more.
    pub(crate) async fn text(
        &self,
        url: Url,
        limit: usize,
        subject: Subject<'_>,
    ) -> Result<(String, bool), HubError> {
        let answer = self.send(Method::GET, url, HeaderMap::new(), subject).await?;
        let (bytes, cut) = read(answer.response, limit).await?;
        Ok((String::from_utf8_lossy(&bytes).into_owned(), cut))
    }

    /// Sends a request and follows redirects until somebody answers with content.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        subject: Subject<'_>,
    ) -> Result<Answer, HubError> {
        let settings = &self.shared.settings;
        if settings.offline {
            return Err(HubError::Offline);
        }
        let client = self.client()?;
        let mut hub_headers = HeaderMap::new();
        let mut url = url;
        for _ in 0..=MAX_REDIRECTS {
            let at_home = same_origin(&url, &settings.endpoint);
            // Content is named by its hash: it must arrive as it is stored.
            let mut request = client
                .request(method.clone(), url.clone())
                .headers(headers.clone())
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(token) = settings.token.as_ref().filter(|_| at_home)
                && let Ok(mut value) = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
            {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let response = request.send().await.map_err(|error| unreachable(&url, error))?;
            if at_home {
                for (name, value) in response.headers() {
                    hub_headers.insert(name.clone(), value.clone());
                }
            }
            let status = response.status();
            if is_redirect(status) {
                url = next(&url, response.headers().get(LOCATION))?;
                continue;
            }
            if status.is_success() {
                return Ok(Answer { response, hub_headers });
            }
            // Another host's refusal says nothing about the repository: a signed address may have run out.
            if !at_home {
                return Err(HubError::Failed { host: host(&url), status: status.as_u16() });
            }
            return Err(refusal(response, &settings.endpoint, settings.token.is_some(), subject));
        }
        Err(HubError::Invalid(format!("it redirects more than {MAX_REDIRECTS} times")))
    }

    fn client(&self) -> Result<&Client, HubError> {
        self.shared.client.get_or_init(|| build(self.shared.settings.silence)).as_ref().map_err(Clone::clone)
    }
}

/// Connections that trust what this system trusts, and say that they are Perch's.
///
/// # Errors
/// [`HubError::Settings`] when encryption cannot be set up.
pub fn connections() -> Result<ClientBuilder, HubError> {
    let tls = super::tls::config().map_err(|error| cannot_connect(&error))?;
    let builder = Client::builder().tls_backend_preconfigured(tls);
    Ok(builder.user_agent(concat!("perch/", env!("CARGO_PKG_VERSION"))))
}

fn cannot_connect(error: &dyn std::fmt::Display) -> HubError {
    HubError::Settings(format!("cannot make connections: {error}"))
}

fn build(silence: Duration) -> Result<Client, HubError> {
    connections()?
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(silence)
        .pool_idle_timeout(Duration::from_secs(30))
        .build()
        .map_err(|error| cannot_connect(&error))
}

/// Reads a body of at most `limit` bytes; says whether there was more.
async fn read(mut response: Response, limit: usize) -> Result<(Vec<u8>, bool), HubError> {
    let url = response.url().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&url, error))? {
        let room = limit - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((bytes, true));
        }
    }
    Ok((bytes, false))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Where a redirect leads.
fn next(from: &Url, location: Option<&HeaderValue>) -> Result<Url, HubError> {
    let to = location.and_then(|l| l.to_str().ok()).and_then(|l| from.join(l).ok());
    let to = to.ok_or_else(|| HubError::Invalid("it redirects to nowhere".to_owned()))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        _ => Err(HubError::Invalid("it redirects to an address without encryption".to_owned())),
    }
}

/// A request that got no answer, or only a part of one.
pub(crate) fn unreachable(url: &Url, error: reqwest::Error) -> HubError {
    HubError::Unreachable { host: host(url), reason: reason(error) }
}

/// Why there was no answer: the innermost reason. The address is left out: it may hold a signature.
pub fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The host of an address, with its port where that is not the usual one.
pub fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the hub");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_may_add_encryption_and_never_drop_it() {
        let url = |text: &str| Url::parse(text).unwrap();
        let go = |from: &str, to: &'static str| next(&url(from), Some(&HeaderValue::from_static(to)));
        assert_eq!(go("https://a/x", "/y").unwrap(), url("https://a/y"));
        assert_eq!(go("http://a/x", "https://b/y").unwrap(), url("https://b/y"));
        for bad in ["http://b/y", "ftp://b/y", "file:///etc/passwd", "http://["] {
            assert!(go("https://a/x", bad).is_err(), "{bad}");
        }
        assert!(next(&url("https://a/x"), None).is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(same_origin(&url("https://a/x"), &url("https://A:443/y")));
        for other in ["http://a/", "https://b/", "https://a:444/", "https://a.b/"] {
            assert!(!same_origin(&url("https://a/"), &url(other)), "{other}");
        }
    }

    #[test]
    fn path_segments_are_escaped() {
        let vars = |name: &str| (name == "HOME").then(|| "/h".into());
        let hub = Hub::new(HubSettings::from_vars(vars).unwrap());
        let url = hub.url(["a", "b c?#", "d"]);
        assert_eq!(url.as_str(), "https://huggingface.co/a/b%20c%3F%23/d");
    }
}
