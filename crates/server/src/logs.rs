//! `LogBuffer`: the recent lines of the log, kept for the dashboard. It is a layer of `tracing`; whoever starts logging
//! adds it, and hands it to the server.
//!
//! It holds what the log holds: neither prompts nor answers nor keys. Old lines are forgotten, long ones cut.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use perch_protocol::{LogLevel, LogLine, LogList, LogQuery};
use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::clock::millis;

/// Lines that are kept.
const CAPACITY: usize = 4_000;
/// Bytes of a message, and of its fields.
const LONGEST: usize = 2_000;

/// The recent lines of the log. Clones are the same buffer.
#[derive(Clone, Default)]
pub struct LogBuffer {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: Mutex<VecDeque<LogLine>>,
    /// `seq` of the newest line.
    last: watch::Sender<u64>,
}

impl LogBuffer {
    /// The lines that `query` asks for.
    pub(crate) fn read(&self, query: &LogQuery) -> LogList {
        let lines = self.inner.lines.lock();
        let last = lines.back().map_or(0, |line| line.seq);
        let after = query.after.unwrap_or(0);
        let wanted = lines.iter().rev().take_while(|line| line.seq > after);
        let wanted = wanted.filter(|line| query.level.is_none_or(|level| line.level <= level));
        let mut found: Vec<LogLine> = wanted.take(query.limit.unwrap_or(CAPACITY)).cloned().collect();
        found.reverse();
        LogList { lines: found, last, capacity: CAPACITY }
    }

    /// `seq` of the newest line, and every change of it.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.inner.last.subscribe()
    }

    fn push(&self, mut line: LogLine) {
        let mut lines = self.inner.lines.lock();
        line.seq = lines.back().map_or(1, |line| line.seq + 1);
        if lines.len() == CAPACITY {
            lines.pop_front();
        }
        let seq = line.seq;
        lines.push_back(line);
        drop(lines);
        self.inner.last.send_replace(seq);
    }
}

impl std::fmt::Debug for LogBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogBuffer").field("lines", &self.inner.lines.lock().len()).finish()
    }
}

/// The fields of a span, as text.
struct SpanFields(String);

impl<S> Layer<S> for LogBuffer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut said = Said::default();
        attributes.record(&mut said);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(said.fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
                said.add(fields);
            }
        }
        let metadata = event.metadata();
        self.push(LogLine {
            seq: 0,
            at: millis(SystemTime::now()),
            level: match *metadata.level() {
                Level::ERROR => LogLevel::Error,
                Level::WARN => LogLevel::Warn,
                Level::INFO => LogLevel::Info,
                Level::DEBUG => LogLevel::Debug,
                Level::TRACE => LogLevel::Trace,
            },
            target: metadata.target().to_owned(),
            message: cut(said.message),
            fields: cut(said.fields),
        });
    }
}

/// What an event says: its message, and its fields as `name=value`.
#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Said {
    fn add(&mut self, fields: &str) {
        if !self.fields.is_empty() && !fields.is_empty() {
            self.fields.push(' ');
        }
        self.fields.push_str(fields);
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.add(&format!("{name}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => {
                let _ = write!(self.message, "{value:?}");
            }
            name => self.add(&format!("{name}={value:?}")),
        }
    }
}

/// `text`, or its beginning.
fn cut(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::prelude::*;

    use super::*;

    fn logged(say: impl FnOnce()) -> LogBuffer {
        let buffer = LogBuffer::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(buffer.clone()), say);
        buffer
    }

    #[test]
    fn a_line_has_its_message_its_fields_and_those_of_its_spans() {
        let buffer = logged(|| {
            let _span = tracing::info_span!("request", id = "a1", n = 2).entered();
            tracing::warn!(status = 503, why = "busy", "answered {}", 7);
        });
        let list = buffer.read(&LogQuery::default());
        let [line] = &list.lines[..] else { panic!("{list:?}") };
        assert_eq!((line.seq, line.level), (1, LogLevel::Warn));
        assert_eq!(line.message, "answered 7");
        assert_eq!(line.fields, "status=503 why=busy id=a1 n=2");
        assert!(line.at > 1_700_000_000_000 && line.target.contains("logs"));
    }

    #[test]
    fn lines_are_chosen_by_level_place_and_number() {
        let buffer = logged(|| {
            for n in 0..10 {
                tracing::info!("info {n}");
                tracing::error!("error {n}");
            }
        });
        let said = |query| -> Vec<String> {
            buffer.read(&query).lines.into_iter().map(|line| line.message).collect()
        };
        let errors = LogQuery { level: Some(LogLevel::Warn), limit: Some(2), ..LogQuery::default() };
        assert_eq!(said(errors), ["error 8", "error 9"]);
        assert_eq!(said(LogQuery { after: Some(18), ..LogQuery::default() }), ["info 9", "error 9"]);
        assert!(said(LogQuery { after: Some(99), ..LogQuery::default() }).is_empty());
    }

    #[test]
    fn old_lines_are_forgotten_and_long_ones_cut() {
        let buffer = logged(|| {
            for n in 0..CAPACITY + 5 {
                tracing::info!("{n}");
            }
            tracing::info!("{}", "é".repeat(LONGEST));
        });
        let list = buffer.read(&LogQuery::default());
        assert_eq!(list.lines.len(), CAPACITY);
        assert_eq!(list.lines[0].message, "6");
        assert_eq!(list.last, CAPACITY as u64 + 6);
        assert!(list.lines.last().unwrap().message.len() <= LONGEST + 4);
    }
}
