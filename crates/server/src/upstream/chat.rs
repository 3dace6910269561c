//! The next message of a conversation from another server: asked as a stream, and read piece by piece as an answer of this
//! machine's models is.

use std::collections::VecDeque;

use perch_protocol::conversations::SamplingSettings;
use serde_json::{Map, Value, json};

use super::events::Events;
use super::{Upstream, Upstreams, reason};
use crate::activity::Running;
use crate::error::ApiError;
use crate::inference::{Delta, Finish, Part, Tally};

/// An answer that is being heard.
pub(crate) struct Heard {
    upstream: Upstream,
    answer: reqwest::Response,
    running: Option<Running>,
    events: Events,
    /// What has been read and not been told.
    deltas: VecDeque<Delta>,
    tally: Tally,
    finished: bool,
}

impl Upstream {
    /// Asks for the message that follows `messages`. What is said of sampling goes there; all else is the server's to choose.
    ///
    /// # Errors
    /// `upstream_unavailable` where the server cannot be reached or refuses, with its reason.
    pub(crate) async fn chat(
        self,
        upstreams: &Upstreams,
        mut messages: Vec<Value>,
        sampling: &SamplingSettings,
        mut running: Running,
    ) -> Result<Heard, ApiError> {
        running.answered_by(&self.id);
        // Thoughts of earlier answers are the server's own affair; some refuse to see them again.
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            message.remove("reasoning_content");
        }
        let mut body = match serde_json::to_value(sampling) {
            Ok(Value::Object(settings)) => settings,
            _ => Map::new(),
        };
        body.insert("messages".to_owned(), messages.into());
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        let asked = async {
            let answer = self.send(upstreams, "chat/completions", body).await?;
            if answer.status().is_success() { Ok(answer) } else { Err(self.refused(answer).await) }
        };
        match asked.await {
            Ok(answer) => Ok(Heard {
                upstream: self,
                answer,
                running: Some(running),
                events: Events::default(),
                deltas: VecDeque::new(),
                tally: Tally::default(),
                finished: false,
            }),
            Err(error) => {
                running.failed(&error);
                Err(error)
            }
        }
    }

    /// Why it did not answer, in its own words where it has some.
    async fn refused(&self, answer: reqwest::Response) -> ApiError {
        let status = answer.status();
        if let Some(error) = self.refuses_key(status) {
            return error;
        }
        let said: Value = serde_json::from_slice(&super::refusal(answer).await).unwrap_or_default();
        match said["error"]["message"].as_str().or_else(|| said["error"].as_str()) {
            Some(why) => self.failed(format_args!("answers {status}: {why}")),
            None => self.failed(format_args!("answers {status}")),
        }
    }
}

impl Heard {
    /// What comes next; `None` after the end.
    ///
    /// # Errors
    /// `upstream_unavailable` where the server breaks off or says that it failed.
    pub(crate) async fn next(&mut self) -> Option<Result<Delta, ApiError>> {
        loop {
            if let Some(delta) = self.deltas.pop_front() {
                return Some(Ok(delta));
            }
            self.running.as_ref()?;
            let heard = match self.answer.chunk().await {
                Ok(Some(chunk)) => self.read(&chunk),
                Ok(None) if self.finished => {
                    self.end();
                    Ok(())
                }
                Ok(None) => Err(self.upstream.failed("ended its answer before the end")),
                Err(error) => {
                    Err(self.upstream.failed(format_args!("broke off its answer: {}", reason(error))))
                }
            };
            if let Err(error) = heard {
                if let Some(running) = self.running.take() {
                    running.failed(&error);
                }
                return Some(Err(error));
            }
        }
    }

    fn read(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        for data in self.events.read(chunk) {
            match &data[..] {
                b"[DONE]" => self.end(),
                data => self.event(data)?,
            }
        }
        match self.events.overflows() {
            true => Err(self.upstream.failed("sends an event that is too long")),
            false => Ok(()),
        }
    }

    fn event(&mut self, data: &[u8]) -> Result<(), ApiError> {
        let Ok(event) = serde_json::from_slice::<Value>(data) else {
            return Err(self.upstream.failed("sends what is no JSON"));
        };
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            let why = error["message"].as_str().or_else(|| error.as_str()).unwrap_or("it does not say why");
            return Err(self.upstream.failed(format_args!("failed: {why}")));
        }
        let delta = &event["choices"][0]["delta"];
        let text = |key: &str| delta[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let thought = text("reasoning_content").or_else(|| text("reasoning")).map(Part::Reasoning);
        for part in thought.into_iter().chain(text("content").map(Part::Content)) {
            if let Some(running) = &mut self.running {
                running.token();
            }
            self.tally.completion_tokens += 1;
            self.deltas.push_back(Delta::Part { choice: 0, part, scores: Vec::new() });
        }
        if let Some(why) = event["choices"][0]["finish_reason"].as_str() {
            self.finished = true;
            let finish = if why == "length" { Finish::Length } else { Finish::default() };
            self.deltas.push_back(Delta::Finished { choice: 0, finish });
        }
        self.count(&event["usage"]);
        Ok(())
    }

    /// Tokens as the server counts them; until it does, each piece counts as one.
    fn count(&mut self, usage: &Value) {
        let Some(completion_tokens) = usage["completion_tokens"].as_u64() else { return };
        self.tally = Tally {
            prompt_tokens: usage["prompt_tokens"].as_u64().unwrap_or(0),
            cached_tokens: usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0),
            completion_tokens,
            reasoning_tokens: usage["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or(0),
        };
    }

    fn end(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let count = |tokens: u64| usize::try_from(tokens).unwrap_or(usize::MAX);
        running.prompt(count(self.tally.prompt_tokens));
        running.cached(count(self.tally.cached_tokens));
        running.completed(self.tally.completion_tokens);
        self.deltas.push_back(Delta::Done(self.tally));
    }
}
