//! `/api/logs`: the recent lines of the log, and those to come.

use std::convert::Infallible;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use perch_protocol::{LogLine, LogList, LogQuery};
use tokio_stream::wrappers::WatchStream;

use crate::app::App;
use crate::extract::Query;

/// The recent lines of the log, oldest first.
#[utoipa::path(get, path = "/api/logs", operation_id = "list_logs", tag = "server", params(LogQuery), responses(
    (status = 200, body = LogList),
))]
pub(crate) async fn list(State(app): State<App>, Query(query): Query<LogQuery>) -> Json<LogList> {
    Json(app.logs.read(&query))
}

/// The recent lines, and then each new one, as server-sent events.
#[utoipa::path(get, path = "/api/logs/stream", operation_id = "watch_logs", tag = "server", params(LogQuery), responses(
    (status = 200, description = "Events named `log`", body = LogLine, content_type = "text/event-stream"),
))]
pub(crate) async fn watch(
    State(app): State<App>,
    Query(query): Query<LogQuery>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (logs, keep_alive) = (app.logs.clone(), KeepAlive::new().interval(app.http.keep_alive));
    let lines = WatchStream::new(logs.watch()).scan(query, move |query, _| {
        let list = logs.read(query);
        query.after = Some(list.last);
        // The limit is about what was there at first.
        query.limit = None;
        futures_util::future::ready(Some(stream::iter(list.lines)))
    });
    let events = lines.flatten().map(|line: LogLine| {
        let event = Event::default().event("log").id(line.seq.to_string());
        Ok(event.json_data(line).unwrap_or_else(|_| Event::default().comment("unwritable")))
    });
    Sse::new(events.take_until(app.stop.clone().cancelled_owned())).keep_alive(keep_alive)
}
