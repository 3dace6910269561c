//! The body of another server's answer on its way to the client: byte for byte, and looked at for the tokens it tells of.

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use perch_hub::remote::reason;
use serde_json::Value;

use super::Upstream;
use super::events::{Events, MAX_LINE};
use crate::activity::Running;

/// A body that arrives as `answer` does. Breaking off, a stream ends in an error event; anything else ends the connection.
pub(super) fn body(upstream: Upstream, answer: reqwest::Response, running: Running) -> Body {
    let is_stream = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    let relay = Relay { upstream, answer, running, counts: Counts { is_stream, ..Counts::default() } };
    Body::from_stream(stream::unfold(Some(relay), |relay| async move {
        let mut relay = relay?;
        match relay.answer.chunk().await {
            Ok(Some(chunk)) => {
                relay.counts.read(&chunk, &mut relay.running);
                Some((Ok(chunk), Some(relay)))
            }
            Ok(None) => {
                let Relay { counts, running, .. } = relay;
                counts.end(running);
                None
            }
            Err(error) => {
                let error = relay.upstream.failed(format_args!("broke off its answer: {}", reason(error)));
                relay.running.failed(&error);
                match relay.counts.is_stream {
                    true => {
                        let event = serde_json::to_string(&error.envelope()).unwrap_or_default();
                        Some((Ok(Bytes::from(format!("\n\ndata: {event}\n\n"))), None))
                    }
                    false => Some((Err(std::io::Error::other(error)), None)),
                }
            }
        }
    }))
}

struct Relay {
    upstream: Upstream,
    answer: reqwest::Response,
    running: Running,
    counts: Counts,
}

/// What an answer says of its tokens.
#[derive(Default)]
struct Counts {
    is_stream: bool,
    events: Events,
    /// An answer that is no stream, as far as it has come; longer ones than a line may be are not read for their counts.
    text: Vec<u8>,
    prompt: usize,
    generated: u64,
}

impl Counts {
    fn read(&mut self, chunk: &[u8], running: &mut Running) {
        if !self.is_stream {
            if self.text.len() + chunk.len() <= MAX_LINE {
                self.text.extend_from_slice(chunk);
            }
            return;
        }
        for data in self.events.read(chunk) {
            self.event(&data, running);
        }
    }

    /// One event: a token, for all that can be seen from here, or the counts at the end.
    fn event(&mut self, data: &[u8], running: &mut Running) {
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
        if event["choices"].as_array().is_some_and(|choices| !choices.is_empty()) {
            running.token();
            self.generated += 1;
        }
        self.usage(&event);
    }

    fn usage(&mut self, answer: &Value) {
        let count = |name: &str| answer["usage"][name].as_u64();
        if let Some(prompt) = count("prompt_tokens") {
            self.prompt = usize::try_from(prompt).unwrap_or(usize::MAX);
        }
        if let Some(generated) = count("completion_tokens") {
            self.generated = generated;
        }
    }

    fn end(mut self, mut running: Running) {
        if !self.is_stream
            && let Ok(answer) = serde_json::from_slice::<Value>(&self.text)
        {
            self.usage(&answer);
        }
        running.prompt(self.prompt);
        running.completed(self.generated);
    }
}
