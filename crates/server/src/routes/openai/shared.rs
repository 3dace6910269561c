//! What chat completions and completions share: parameters that both have, usage, and the stream of events.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use perch_protocol::openai::{
    CompletionTokensDetails, FinishReason, PromptTokensDetails, Stop, StreamOptions, Usage,
};
use serde::Serialize;

use crate::error::ApiError;
use crate::inference::{Answer, Delta, Finish, Tally};

/// Most choices of one prompt.
const MAX_CHOICES: u32 = 16;
/// Most stop strings, and the longest.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 1024;
/// Most log-probabilities in one place.
const MAX_LOGPROBS: u32 = 20;

/// What produced an answer: changes when the same seed may give another one.
pub(super) fn fingerprint() -> String {
    concat!("perch-", env!("CARGO_PKG_VERSION")).to_owned()
}

pub(super) fn choices(n: Option<u32>) -> Result<usize, ApiError> {
    match n.unwrap_or(1) {
        n @ 1..=MAX_CHOICES => Ok(n as usize),
        n => Err(ApiError::invalid("n", format!("n must be between 1 and {MAX_CHOICES}, not {n}"))),
    }
}

pub(super) fn stops(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let stops = stop.map(Stop::into_vec).unwrap_or_default();
    if stops.len() > MAX_STOPS {
        return Err(ApiError::invalid(
            "stop",
            format!("at most {MAX_STOPS} stop strings, not {}", stops.len()),
        ));
    }
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > MAX_STOP_BYTES) {
        let message = format!("a stop string must have between 1 and {MAX_STOP_BYTES} bytes");
        return Err(ApiError::invalid("stop", message));
    }
    Ok(stops)
}

pub(super) fn logit_bias(bias: Option<BTreeMap<String, f32>>) -> Result<Vec<(u32, f32)>, ApiError> {
    let pair = |(token, bias): (String, f32)| match token.trim().parse() {
        Ok(token) => Ok((token, bias)),
        Err(_) => Err(ApiError::invalid("logit_bias", format!("`{token}` is no token id"))),
    };
    bias.unwrap_or_default().into_iter().map(pair).collect()
}

pub(super) fn top_logprobs(name: &'static str, count: u32) -> Result<usize, ApiError> {
    match count {
        0..=MAX_LOGPROBS => Ok(count as usize),
        _ => {
            Err(ApiError::invalid(name, format!("{name} must be between 0 and {MAX_LOGPROBS}, not {count}")))
        }
    }
}

/// Whether to stream, and whether to send usage at the end.
pub(super) fn streaming(
    stream: Option<bool>,
    options: Option<StreamOptions>,
) -> Result<Option<bool>, ApiError> {
    match (stream.unwrap_or(false), options) {
        (true, options) => Ok(Some(options.unwrap_or_default().include_usage)),
        (false, None) => Ok(None),
        (false, Some(_)) => {
            Err(ApiError::invalid("stream_options", "stream_options are for streams; set `stream` to true"))
        }
    }
}

pub(super) fn usage(tally: Tally) -> Usage {
    Usage {
        prompt_tokens: tally.prompt_tokens,
        completion_tokens: tally.completion_tokens,
        total_tokens: tally.prompt_tokens + tally.completion_tokens,
        prompt_tokens_details: PromptTokensDetails { cached_tokens: tally.cached_tokens },
        completion_tokens_details: CompletionTokensDetails { reasoning_tokens: tally.reasoning_tokens },
    }
}

pub(super) fn finish_reason(finish: &Finish) -> FinishReason {
    match finish {
        Finish::Stop { .. } => FinishReason::Stop,
        Finish::Length => FinishReason::Length,
        Finish::ToolCalls => FinishReason::ToolCalls,
    }
}

/// Turns deltas into chunks.
pub(super) trait Encode: Send + 'static {
    type Chunk: Serialize;

    /// The chunks for a delta; none, one or several.
    fn encode(&mut self, delta: Delta) -> Vec<Self::Chunk>;
}

/// An answer as server-sent events: a chunk each, then `[DONE]`; or, where it fails on the way, an error and the end.
pub(super) fn event_stream<E: Encode>(answer: Answer, encoder: E, keep_alive: Duration) -> Response {
    let deltas = stream::unfold(Some((answer, encoder)), |state| async {
        let (mut answer, mut encoder) = state?;
        match answer.next().await {
            Some(Ok(delta)) => {
                let events: Vec<Event> = encoder.encode(delta).iter().map(data).collect();
                Some((events, Some((answer, encoder))))
            }
            Some(Err(error)) => Some((vec![data(&error.envelope())], None)),
            None => Some((vec![Event::default().data("[DONE]")], None)),
        }
    });
    let events = deltas.flat_map(|events| stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response();
    // Proxies that gather answers would hold tokens back.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

fn data<T: Serialize>(value: &T) -> Event {
    // Our own types, with string keys and finite numbers: they can always be written.
    Event::default().json_data(value).unwrap_or_else(|_| Event::default().comment("unwritable"))
}
