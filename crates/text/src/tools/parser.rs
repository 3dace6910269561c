//! `ToolCallParser`: finds calls of tools in a model's answer, as it streams, in every family's own notation.
//!
//! Invariants: a call is reported once, whole, when its last character has arrived, so that a client never gets half
//! a call that proves broken; what looked like a call and was none becomes content again, unchanged, and parsing goes
//! on behind it; the result does not depend on how the text was cut; contents and raw texts of calls in a row are the
//! answer, but for white space beside calls. Each byte of a sound answer is scanned once.

use serde_json::Value;

use super::format::ToolFormat;
use super::scan::{JsonScan, Scanned};
use super::shape::{self, Named, Shape};
use super::{ToolCall, ToolEvent, xml};
use crate::markers::{find_first, held_back};

/// Finds the calls of one answer.
#[derive(Debug, Clone)]
pub struct ToolCallParser {
    shapes: &'static [Shape],
    tools: Vec<Value>,
    state: State,
    /// What is not decided yet; a call's text from its opening on.
    buffer: String,
    /// White space that is content only if more content follows.
    space: String,
    /// Nothing but white space and calls so far.
    at_start: bool,
    calls: usize,
    failures: usize,
}

#[derive(Debug, Clone)]
enum State {
    Content,
    /// After an opening: `from` is where it ends in the buffer.
    Head {
        shape: &'static Shape,
        from: usize,
    },
    /// In the JSON that begins at `from`; bytes before `at` are scanned.
    Json {
        shape: &'static Shape,
        head: usize,
        from: usize,
        at: usize,
        scan: JsonScan,
    },
    /// In `<function=…>` from `from` on; there is no end before `at`.
    Xml {
        shape: &'static Shape,
        from: usize,
        at: usize,
    },
    /// The call is whole; closing markers from the `next`th on may follow at `at`.
    Close {
        shape: &'static Shape,
        calls: Vec<(String, String)>,
        next: usize,
        at: usize,
    },
}

/// What the state machine wants after a step.
enum Next {
    /// Another step.
    Go(State),
    /// More text.
    Wait(State),
    /// Give this many bytes back as content and begin anew behind them.
    Release(usize),
}

/// A head without its JSON after this many bytes is none.
const MAX_HEAD: usize = 1024;
/// After so many broken calls, what follows one is no longer searched for the next: each search costs a scan.
const MAX_FAILURES: usize = 32;

impl ToolCallParser {
    /// For an answer of a model that was offered `tools` (in OpenAI's form).
    pub fn new(format: ToolFormat, tools: &[Value]) -> Self {
        Self {
            shapes: format.shapes(),
            tools: tools.to_vec(),
            state: State::Content,
            buffer: String::new(),
            space: String::new(),
            at_start: true,
            calls: 0,
            failures: 0,
        }
    }

    /// Takes the next piece of the answer.
    pub fn push(&mut self, text: &str) -> Vec<ToolEvent> {
        self.buffer.push_str(text);
        let mut events = Vec::new();
        self.run(&mut events, false);
        events
    }

    /// The end of the answer: unfinished calls become content.
    pub fn finish(&mut self) -> Vec<ToolEvent> {
        let mut events = Vec::new();
        self.run(&mut events, true);
        let rest = std::mem::take(&mut self.space) + &std::mem::take(&mut self.buffer);
        // White space behind the last call is the model's layout, not an answer.
        if !(rest.trim().is_empty() && self.calls > 0) {
            emit(&mut events, &rest);
        }
        events
    }

    fn run(&mut self, events: &mut Vec<ToolEvent>, last: bool) {
        loop {
            match self.step(events, last) {
                Next::Go(state) => self.state = state,
                Next::Wait(state) => {
                    self.state = state;
                    return;
                }
                Next::Release(len) => {
                    let text: String = self.buffer.drain(..len).collect();
                    self.content(events, &text);
                    self.state = State::Content;
                }
            }
        }
    }

    fn step(&mut self, events: &mut Vec<ToolEvent>, last: bool) -> Next {
        match std::mem::replace(&mut self.state, State::Content) {
            State::Content => self.search(events, last),
            State::Head { shape, from } => self.head(shape, from, last),
            State::Json { shape, head, from, at, scan } => self.json(shape, (head, from, at), scan, last),
            State::Xml { shape, from, at } => self.xml(shape, from, at, last),
            State::Close { shape, calls, next, at } => {
                self.close(events, State::Close { shape, calls, next, at }, last)
            }
        }
    }

    /// Looks for an opening.
    fn search(&mut self, events: &mut Vec<ToolEvent>, last: bool) -> Next {
        let word = self.buffer.trim_start();
        if self.at_start && !word.is_empty() {
            let anchored = self.shapes.iter().find(|shape| shape.anchored && word.starts_with(shape.open));
            if let Some(shape) = anchored {
                let lead = self.buffer.len() - word.len();
                self.space.extend(self.buffer.drain(..lead));
                return Next::Go(State::Head { shape, from: 0 });
            }
        }
        let markers: Vec<&str> = self.shapes.iter().filter(|s| !s.anchored).map(|s| s.open).collect();
        match find_first(&self.buffer, &markers) {
            Some((at, marker)) => {
                let text: String = self.buffer.drain(..at).collect();
                self.content(events, &text);
                match self.shapes.iter().find(|shape| shape.open == marker) {
                    // `<function=` is its own head.
                    Some(shape) if marker == xml::OPEN && matches!(shape.named, Named::Inside) => {
                        Next::Go(State::Xml { shape, from: 0, at: 0 })
                    }
                    Some(shape) => Next::Go(State::Head { shape, from: marker.len() }),
                    None => Next::Release(marker.len()),
                }
            }
            None => {
                let keep = if last { 0 } else { held_back(&self.buffer, &markers) };
                let text: String = self.buffer.drain(..self.buffer.len() - keep).collect();
                self.content(events, &text);
                Next::Wait(State::Content)
            }
        }
    }

    /// Looks for the beginning of the JSON.
    fn head(&mut self, shape: &'static Shape, from: usize, last: bool) -> Next {
        let text = &self.buffer[from..];
        let word = text.trim_start();
        let start = from + text.len() - word.len();
        let json =
            |start| State::Json { shape, head: from, from: start, at: start, scan: JsonScan::default() };
        let wait = |state| if last { Next::Release(from.max(1)) } else { Next::Wait(state) };
        if word.starts_with(['{', '[']) {
            return match shape.anchored {
                true => self.anchored_head(json(start), start, last),
                false => Next::Go(json(start)),
            };
        }
        if word.starts_with(xml::OPEN) && matches!(shape.named, Named::Inside) {
            return Next::Go(State::Xml { shape, from: start, at: start });
        }
        match shape.named {
            Named::Before(_) => match word.find('{') {
                Some(at) => Next::Go(json(start + at)),
                None if word.len() > MAX_HEAD => Next::Release(from.max(1)),
                None => wait(State::Head { shape, from }),
            },
            Named::Inside if xml::OPEN.starts_with(word) => wait(State::Head { shape, from }),
            Named::Inside => Next::Release(from.max(1)),
        }
    }

    /// Bare JSON is held back only while it begins like a call.
    fn anchored_head(&self, json: State, start: usize, last: bool) -> Next {
        let packed: String = self.buffer[start..].chars().filter(|c| !c.is_whitespace()).take(12).collect();
        let object = packed.strip_prefix('[').unwrap_or(&packed);
        let begins = ["{\"name\":", "{\"type\":", "{\"function\":"];
        if begins.iter().any(|begin| object.starts_with(begin)) {
            return Next::Go(json);
        }
        match begins.iter().any(|begin| begin.starts_with(object)) && !last {
            true => match json {
                State::Json { shape, head, .. } => Next::Wait(State::Head { shape, from: head }),
                other => Next::Wait(other),
            },
            false => Next::Release(start + 1),
        }
    }

    fn json(
        &mut self,
        shape: &'static Shape,
        (head, from, mut at): (usize, usize, usize),
        mut scan: JsonScan,
        last: bool,
    ) -> Next {
        for byte in &self.buffer.as_bytes()[at..] {
            match scan.advance(*byte) {
                Scanned::More => at += 1,
                Scanned::Complete => {
                    return match self.read(shape, head, from, &self.buffer[from..=at]) {
                        Some(calls) => Next::Go(State::Close { shape, calls, next: 0, at: at + 1 }),
                        None => self.give_up(shape, from, at + 1),
                    };
                }
                Scanned::Broken => return self.mend(shape, (head, from, at), &scan, last),
            }
        }
        if last {
            return self.give_up(shape, from, at);
        }
        Next::Wait(State::Json { shape, head, from, at, scan })
    }

    /// A forgotten closing bracket before the closing marker is put right; all else is no call.
    fn mend(
        &mut self,
        shape: &'static Shape,
        (head, from, at): (usize, usize, usize),
        scan: &JsonScan,
        last: bool,
    ) -> Next {
        let rest = &self.buffer[at..];
        let closes = shape.close.iter().any(|close| rest.starts_with(close));
        if closes && let Some(missing) = scan.missing() {
            let text = format!("{}{missing}", &self.buffer[from..at]);
            if let Some(calls) = self.read(shape, head, from, &text) {
                return Next::Go(State::Close { shape, calls, next: 0, at });
            }
        }
        let may_close = !last && shape.close.iter().any(|close| close.starts_with(rest));
        if may_close {
            let scan = scan.clone();
            return Next::Wait(State::Json { shape, head, from, at, scan });
        }
        self.give_up(shape, from, at)
    }

    /// What was scanned from `from` to `at` is no call. A quote that never closed may have swallowed whole calls that
    /// came after it: only the text up to the first closing marker, or to the next opening, is given back.
    fn give_up(&mut self, shape: &'static Shape, from: usize, at: usize) -> Next {
        self.failures += 1;
        if self.failures > MAX_FAILURES {
            return Next::Release(at.max(1));
        }
        let scanned = &self.buffer[from..at];
        let closed = shape.close.iter().filter(|close| close.len() > 1);
        let closed = closed.filter_map(|close| Some(scanned.find(close)? + close.len()));
        let opened =
            self.shapes.iter().filter(|shape| !shape.anchored).filter_map(|shape| scanned.find(shape.open));
        Next::Release(closed.chain(opened).min().map_or(at, |end| from + end).max(1))
    }

    fn read(&self, shape: &Shape, head: usize, from: usize, json: &str) -> Option<Vec<(String, String)>> {
        let value: Value = serde_json::from_str(json).ok()?;
        let before = self.buffer[head..from].trim();
        if let Named::Before(name) = shape.named
            && !before.is_empty()
        {
            let name = name(before)?.trim();
            return (shape::is_name(name) && value.is_object())
                .then(|| vec![(name.to_owned(), json.to_owned())]);
        }
        let calls: Option<Vec<_>> = match &value {
            Value::Array(list) if !list.is_empty() => list.iter().map(shape::call_in).collect(),
            value => shape::call_in(value).map(|call| vec![call]),
        };
        // Without a marker of its own, only a name that was offered makes a call of a JSON answer.
        calls.filter(|calls| !shape.anchored || calls.iter().all(|(name, _)| self.offers(name)))
    }

    fn offers(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.get("function").unwrap_or(tool)["name"] == name)
    }

    fn xml(&mut self, shape: &'static Shape, from: usize, at: usize, last: bool) -> Next {
        match self.buffer[at..].find(xml::CLOSE) {
            Some(found) => {
                let end = at + found + xml::CLOSE.len();
                match xml::parse(&self.buffer[from..end], &self.tools) {
                    Some(call) => Next::Go(State::Close { shape, calls: vec![call], next: 0, at: end }),
                    None => Next::Release(end),
                }
            }
            None if last => Next::Release(self.buffer.len()),
            None => {
                let at = self.buffer.len() - held_back(&self.buffer, &[xml::CLOSE]);
                Next::Wait(State::Xml { shape, from, at: at.max(from) })
            }
        }
    }

    /// Takes the closing markers, then reports the calls.
    fn close(&mut self, events: &mut Vec<ToolEvent>, state: State, last: bool) -> Next {
        let State::Close { shape, calls, mut next, mut at } = state else { return Next::Go(state) };
        while next < shape.close.len() {
            let word = self.buffer[at..].trim_start();
            let start = self.buffer.len() - word.len();
            if let Some(found) = (next..shape.close.len()).find(|i| word.starts_with(shape.close[*i])) {
                at = start + shape.close[found].len();
                next = found + 1;
            } else if !last && shape.close[next..].iter().any(|close| close.starts_with(word)) {
                return Next::Wait(State::Close { shape, calls, next, at });
            } else {
                break;
            }
        }
        let mut raw: String = self.buffer.drain(..at).collect();
        self.space.clear();
        for (name, arguments) in calls {
            let raw = std::mem::take(&mut raw);
            events.push(ToolEvent::Call(ToolCall { index: self.calls, name, arguments, raw }));
            self.calls += 1;
        }
        Next::Go(State::Content)
    }

    /// Shows content, keeping back white space that may turn out to lie beside a call.
    fn content(&mut self, events: &mut Vec<ToolEvent>, text: &str) {
        let words = text.trim_end();
        if !words.is_empty() {
            self.at_start = false;
            emit(events, &std::mem::take(&mut self.space));
            emit(events, words);
        }
        self.space.push_str(&text[words.len()..]);
    }
}

/// Adds text to the last event where it is content too.
fn emit(events: &mut Vec<ToolEvent>, text: &str) {
    match events.last_mut() {
        _ if text.is_empty() => {}
        Some(ToolEvent::Content(all)) => all.push_str(text),
        _ => events.push(ToolEvent::Content(text.to_owned())),
    }
}
