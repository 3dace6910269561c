//! Server-sent events with names, ended by `[DONE]`.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

/// An event called `name`.
pub(super) fn event<T: Serialize>(name: &str, value: &T) -> Event {
    // Our own types, with string keys and finite numbers: they can always be written.
    let event = Event::default().event(name).json_data(value);
    event.unwrap_or_else(|_| Event::default().comment("unwritable"))
}

/// `events`, then the end.
pub(super) fn response(events: impl Stream<Item = Event> + Send + 'static, keep_alive: Duration) -> Response {
    let done = stream::once(async { Event::default().data("[DONE]") });
    let events = events.chain(done).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(keep_alive)).into_response();
    // Proxies that gather answers would hold tokens back.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}
