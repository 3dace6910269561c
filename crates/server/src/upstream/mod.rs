//! Models that another OpenAI-compatible server runs: requests that name one go there as they are, and its answers come back as
//! they are. Conversations that Perch keeps have it answer them.
//!
//! Invariants: the server gets its own key and never that of Perch's client; what it sends is changed in nothing, or replaced by an
//! error that names it; a client that goes away ends the request there too.

mod chat;
mod events;
mod forward;
mod relay;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use perch_hub::remote::{host, reason};
use perch_protocol::ErrorCode;
use reqwest::{Client, Url, redirect};
use serde_json::{Map, Value};

use crate::config::ModelConfig;
use crate::error::ApiError;

pub(crate) use chat::Heard;
pub(crate) use forward::forward;

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence within an answer: a large model may think about a long prompt for minutes.
const SILENCE: Duration = Duration::from_secs(600);

/// Longest refusal of the other server that is read.
const MAX_REFUSAL: usize = 1 << 20;

/// The way to other servers. Cheap to clone; what it needs is made when a request first goes there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Upstreams {
    client: Arc<OnceLock<Result<Client, String>>>,
}

/// The server behind a model.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// Perch's id of the model.
    pub(crate) id: String,
    /// Where the server's routes begin.
    base: Url,
    /// What the server calls the model.
    model: String,
    /// Its key.
    key: Option<String>,
}

impl Upstreams {
    fn client(&self) -> Result<&Client, ApiError> {
        let made = self.client.get_or_init(|| {
            let builder = perch_hub::remote::connections().map_err(|error| error.to_string())?;
            builder
                .redirect(redirect::Policy::none())
                .connect_timeout(CONNECT)
                .read_timeout(SILENCE)
                .build()
                .map_err(|error| error.to_string())
        });
        made.as_ref().map_err(|error| {
            ApiError::new(ErrorCode::UpstreamUnavailable, format!("no connection can be made: {error}"))
        })
    }
}

impl Upstream {
    /// The server that `config` names; `None` for a model of this machine.
    pub(crate) fn of(config: &ModelConfig) -> Result<Option<Self>, ApiError> {
        let (Some(_), Some(base)) = (config.provider, &config.base_url) else { return Ok(None) };
        let wrong = |what: String| {
            ApiError::new(ErrorCode::UpstreamUnavailable, format!("`{}` cannot be asked: {what}", config.id))
        };
        let base =
            Url::parse(base).map_err(|error| wrong(format!("its `base_url` is no address ({error})")))?;
        let key = match &config.api_key_env {
            None => None,
            Some(name) => match std::env::var(name) {
                Ok(key) if !key.trim().is_empty() => Some(key.trim().to_owned()),
                _ => {
                    let what = format!(
                        "the environment variable {name}, which holds its key, is not set where Perch was started"
                    );
                    return Err(wrong(what));
                }
            },
        };
        let model = config.model.clone().unwrap_or_else(|| config.id.clone());
        Ok(Some(Self { id: config.id.clone(), base, model, key }))
    }

    /// One of its routes, such as `chat/completions`.
    fn route(&self, route: &str) -> Url {
        let mut url = self.base.clone();
        // Only addresses with a host come here, and those have a path to extend.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(route.split('/'));
        }
        url
    }

    /// Sends a body to one of its routes, with its own name of the model and its own key.
    async fn send(
        &self,
        upstreams: &Upstreams,
        route: &str,
        mut body: Map<String, Value>,
    ) -> Result<reqwest::Response, ApiError> {
        body.insert("model".to_owned(), Value::from(self.model.clone()));
        let mut request =
            upstreams.client()?.post(self.route(route)).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            let mut value = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| {
                self.failed("has a key that cannot be sent: it holds a line break or the like")
            })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let sent = request.body(Value::from(body).to_string()).send().await;
        sent.map_err(|error| self.failed(format_args!("cannot be reached: {}", reason(error))))
    }

    /// The error for a server that does not take its key.
    fn refuses_key(&self, status: StatusCode) -> Option<ApiError> {
        matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            .then(|| self.failed(format_args!("refuses its key ({status}); check `api_key_env`")))
    }

    /// It did not answer as it should.
    fn failed(&self, what: impl std::fmt::Display) -> ApiError {
        let message = format!("`{}` runs on {}, which {what}", self.id, host(&self.base));
        ApiError::new(ErrorCode::UpstreamUnavailable, message)
    }
}

/// What a server says in place of an answer.
async fn refusal(mut answer: reqwest::Response) -> Vec<u8> {
    let mut said = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        said.extend_from_slice(&chunk);
        if said.len() > MAX_REFUSAL {
            break;
        }
    }
    said
}

/// What is wrong with the part of a model's table that names a server; `None` if nothing is.
pub(crate) fn fault(config: &ModelConfig) -> Option<(&'static str, String)> {
    let local = [
        ("path", config.path.is_some()),
        ("repo", config.repo.is_some()),
        ("backend", config.backend.is_some()),
        ("context", config.context.is_some()),
        ("quantize", config.quantize.is_some()),
        ("kv_budget", config.kv_budget.is_some()),
        ("keep_alive", config.keep_alive.is_some()),
        ("pin", config.pin),
        ("preload", config.preload),
        ("system", config.system.is_some()),
        ("defaults", config.defaults != Default::default()),
        ("chat_template_kwargs", !config.chat_template_kwargs.is_empty()),
    ];
    let remote = [
        ("base_url", config.base_url.is_some()),
        ("api_key_env", config.api_key_env.is_some()),
        ("model", config.model.is_some()),
    ];
    let first = |keys: &[(&'static str, bool)]| keys.iter().find(|(_, set)| *set).map(|(key, _)| *key);
    match (config.provider, &config.base_url) {
        (None, _) => first(&remote).map(|key| (key, "only goes with `provider = \"openai\"`".to_owned())),
        (Some(_), None) => {
            Some(("base_url", "is missing: the address of the server, up to and with /v1".to_owned()))
        }
        (Some(_), Some(base)) => {
            if let Some(key) = first(&local) {
                return Some((
                    key,
                    "is for models of this machine; this one runs on another server".to_owned(),
                ));
            }
            match Url::parse(base) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => None,
                _ => Some(("base_url", format!("{base:?} is no address; write http://host:port/v1"))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Provider;

    fn config(base: &str) -> ModelConfig {
        ModelConfig {
            id: "big".into(),
            provider: Some(Provider::OpenAi),
            base_url: Some(base.into()),
            ..ModelConfig::default()
        }
    }

    #[test]
    fn routes_come_after_the_base_with_and_without_a_slash() {
        for base in ["http://mac.local:8080/v1", "http://mac.local:8080/v1/"] {
            let upstream = Upstream::of(&config(base)).unwrap().unwrap();
            assert_eq!(
                upstream.route("chat/completions").as_str(),
                "http://mac.local:8080/v1/chat/completions"
            );
            assert_eq!((host(&upstream.base), upstream.model.as_str()), ("mac.local:8080".into(), "big"));
        }
    }

    #[test]
    fn a_key_that_is_not_there_is_named() {
        let config =
            ModelConfig { api_key_env: Some("PERCH_TEST_NO_SUCH_KEY".into()), ..config("http://a/v1") };
        let error = Upstream::of(&config).unwrap_err();
        assert!(error.message.contains("PERCH_TEST_NO_SUCH_KEY"), "{error}");
    }

    #[test]
    fn tables_that_mean_two_things_are_refused() {
        assert_eq!(fault(&config("https://host/v1")), None);
        assert_eq!(fault(&ModelConfig::default()), None);
        for base in ["ftp://host/v1", "host:8080", "", "http://"] {
            assert_eq!(fault(&config(base)).unwrap().0, "base_url", "{base}");
        }
        let both = ModelConfig { path: Some("/models/a.gguf".into()), ..config("https://host/v1") };
        assert_eq!(fault(&both).unwrap().0, "path");
        let half = ModelConfig { api_key_env: Some("KEY".into()), ..ModelConfig::default() };
        assert_eq!(fault(&half).unwrap().0, "api_key_env");
    }
}
