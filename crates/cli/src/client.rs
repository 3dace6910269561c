//! A small HTTP client for a Perch server on this machine or in this process.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use perch_protocol::ErrorEnvelope;
use perch_server::{Config, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::args::ServerArgs;

/// Longest answer that is read whole.
const MAX_ANSWER: usize = 16 << 20;

/// The server's own error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// One of the error codes.
    pub(crate) code: Option<String>,
    pub(crate) message: String,
}

/// Speaks to one server. One connection for each request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    authority: String,
    key: Option<String>,
}

impl Client {
    /// A client of `http://HOST:PORT`.
    pub(crate) fn new(url: &str, key: Option<String>) -> Result<Self> {
        let uri: hyper::Uri = url.parse().with_context(|| format!("`{url}` is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("`{url}` is not an http:// URL");
        }
        let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { authority: format!("{}:{port}", authority.host()), key })
    }

    /// A client of the server that was named, or of the one that is configured.
    pub(crate) fn of(server: &ServerArgs, config: &Config) -> Result<Self> {
        let url = server.url.clone().unwrap_or_else(|| url(&config.host, config.port));
        // A configured key that may administer.
        let admin = config.keys.iter().filter(|key| key.scopes.contains(&Scope::Admin));
        let key = server.api_key.clone().or_else(|| admin.clone().find_map(|key| key.key.clone()));
        Self::new(&url, key)
    }

    /// Reads a JSON answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Self::read(self.send("GET", path, None).await?).await
    }

    /// Sends JSON and reads a JSON answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        Self::read(self.send("POST", path, Some(serde_json::to_string(body)?)).await?).await
    }

    /// Changes something with JSON and reads a JSON answer.
    pub(crate) async fn patch<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        Self::read(self.send("PATCH", path, Some(serde_json::to_string(body)?)).await?).await
    }

    /// Deletes something and reads a JSON answer.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        Self::read(self.send("DELETE", path, None).await?).await
    }

    /// Reads an answer of any kind.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes> {
        Self::whole(self.send("GET", path, None).await?).await
    }

    async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T> {
        let bytes = Self::whole(response).await?;
        serde_json::from_slice(&bytes).context("the answer is not what a Perch server sends")
    }

    async fn whole(response: Response<Incoming>) -> Result<Bytes> {
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let body = body.collect().await.map_err(|error| anyhow!("the answer broke off: {error}"))?;
        Ok(body.to_bytes())
    }

    /// Sends JSON and returns the answer as it comes.
    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Events> {
        let response = self.send("POST", path, Some(body.to_string())).await?;
        Ok(Events { body: response.into_body(), buffer: Vec::new() })
    }

    async fn send(&self, method: &str, path: &str, body: Option<String>) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(&self.authority).await.with_context(|| {
            format!("no server answers at http://{}; start one with `perch serve`", self.authority)
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the request: the connection closes when the body has been read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.authority);
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default())))?;
        let response = sender.send_request(request).await.context("the server closed the connection")?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<ErrorEnvelope>(&bytes) {
            Ok(ErrorEnvelope { error }) => Err(Refused { code: error.code, message: error.message }.into()),
            Err(_) => bail!("the server answered {status}"),
        }
    }
}

/// An address to listen on as seen from this machine.
pub(crate) fn url(host: &str, port: u16) -> String {
    let host = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(all)) if all.is_unspecified() => "127.0.0.1".to_string(),
        Ok(IpAddr::V6(all)) if all.is_unspecified() => "[::1]".to_string(),
        Ok(IpAddr::V6(one)) => format!("[{one}]"),
        _ => host.to_string(),
    };
    format!("http://{host}:{port}")
}

/// Server-sent events as they arrive.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// The data of the next event; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match data(&String::from_utf8_lossy(&event)) {
                    Some(data) if data == "[DONE]" => return Ok(None),
                    Some(data) => return Ok(Some(data)),
                    None => continue,
                }
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Some(bytes) = frame.context("the answer broke off")?.data_ref() {
                self.buffer.extend_from_slice(bytes);
            }
        }
    }
}

/// The `data:` lines of an event; comments have none.
fn data(event: &str) -> Option<String> {
    let lines: Vec<&str> = event
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|line| line.trim_start_matches(' '))
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_data_lines_and_a_comment_is_none() {
        assert_eq!(data("event: x\ndata: {\"a\":1}\n\n").as_deref(), Some("{\"a\":1}"));
        assert_eq!(data("data: a\ndata: b\n\n").as_deref(), Some("a\nb"));
        assert_eq!(data(": keep-alive\n\n"), None);
    }

    #[test]
    fn only_http_urls_with_a_host_are_taken() {
        assert!(Client::new("http://127.0.0.1:8080", None).is_ok());
        for bad in ["https://a", "127.0.0.1", "http://", "nonsense"] {
            assert!(Client::new(bad, None).is_err(), "{bad}");
        }
    }
}
