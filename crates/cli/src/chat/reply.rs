//! One answer: asked for, shown as it comes, stopped by Ctrl-C.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::markdown::Markdown;
use super::session::Session;
use super::wrap::Wrap;
use crate::client::{Client, Events, Refused};
use crate::progress::Progress;
use crate::text;

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// An answer, and what it cost.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) text: String,
    /// Tokens of the prompt, those of them that were cached, and tokens of the answer, if the server said.
    pub(super) tokens: Option<[u64; 3]>,
    pub(super) first_token: Option<Duration>,
    pub(super) took: Duration,
    /// Ctrl-C ended it.
    pub(super) stopped: bool,
    /// It reached the most tokens allowed.
    pub(super) cut: bool,
}

impl Reply {
    /// `38 tokens · 41 tokens/s · first after 0.2 s`.
    pub(super) fn footer(&self) -> String {
        let mut parts = Vec::new();
        if let Some([_, _, count]) = self.tokens {
            parts.push(format!("{count} token{}", if count == 1 { "" } else { "s" }));
            let generating = self.took.saturating_sub(self.first_token.unwrap_or_default()).as_secs_f64();
            if count > 1 && generating > 0.0 {
                parts.push(format!("{:.0} tokens/s", (count - 1) as f64 / generating));
            }
        }
        parts.extend(self.first_token.map(|first| format!("first after {:.1} s", first.as_secs_f64())));
        if self.cut {
            parts.push("cut off: max_tokens reached".to_string());
        }
        if self.stopped {
            parts.push("stopped".to_string());
        }
        parts.join(" · ")
    }
}

/// Whether the server found the chat too long for the model.
pub(super) fn is_too_long(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.code.as_deref() == Some("context_length_exceeded"))
}

/// Asks, and shows the answer as it comes.
pub(super) async fn ask(client: &Client, session: &Session, styled: bool) -> Result<Reply> {
    let began = Instant::now();
    let width = terminal_size::terminal_size().filter(|_| styled).map(|(width, _)| usize::from(width.0));
    let mut view = View {
        began,
        styled,
        thinking: false,
        thoughts: Wrap::new(width),
        markdown: Markdown::new(styled, width),
        reply: Reply::default(),
    };
    let request = session.request();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let waiting = Progress::start(
        session.model.as_deref().map_or("Waiting".to_string(), |m| format!("Waiting for {m}")),
    );
    // Dropping the events ends the request, and with it the model's work.
    let mut events: Events = tokio::select! {
        events = client.post("/v1/chat/completions", &request) => events?,
        _ = &mut interrupted => return Ok(Reply { stopped: true, took: began.elapsed(), ..Reply::default() }),
    };
    let mut waiting = Some(waiting);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = &mut interrupted => {
                view.reply.stopped = true;
                break;
            }
        };
        waiting = None;
        match event {
            Ok(Some(event)) => view.take(&serde_json::from_str(&event).context("the answer is not JSON")?)?,
            Ok(None) => break,
            Err(error) => {
                view.end()?;
                return Err(error);
            }
        }
    }
    drop(waiting);
    view.end()?;
    Ok(view.reply)
}

/// An answer on its way to the screen.
struct View {
    began: Instant,
    styled: bool,
    thinking: bool,
    thoughts: Wrap,
    markdown: Markdown,
    reply: Reply,
}

impl View {
    fn take(&mut self, event: &Value) -> Result<()> {
        if let Some(message) = event.pointer("/error/message").and_then(Value::as_str) {
            self.end()?;
            bail!("{message}");
        }
        let count = |path: &str| event.pointer(path).and_then(Value::as_u64);
        if let (Some(prompt), Some(completion)) =
            (count("/usage/prompt_tokens"), count("/usage/completion_tokens"))
        {
            let cached = count("/usage/prompt_tokens_details/cached_tokens").unwrap_or(0);
            self.reply.tokens = Some([prompt, cached, completion]);
        }
        let Some(choice) = event.pointer("/choices/0") else { return Ok(()) };
        let said = |path: &str| choice.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(thought) = said("/delta/reasoning_content") {
            self.first_token();
            // What a model thinks is for a person, not for what reads a pipe.
            if self.styled {
                let begin = if self.thinking { "" } else { DIM };
                self.thinking = true;
                let mut out = String::new();
                self.thoughts.put(&format!("{begin}{}", text::printable(thought)), false, &mut out);
                self.show(&out)?;
            }
        }
        if let Some(content) = said("/delta/content") {
            self.first_token();
            if self.thinking {
                self.thinking = false;
                let mut out = String::new();
                self.thoughts.put(&format!("{RESET}\n\n"), false, &mut out);
                self.show(&out)?;
            }
            self.reply.text.push_str(content);
            let shown = match self.styled {
                true => self.markdown.push(&text::printable(content)),
                false => content.to_string(),
            };
            self.show(&shown)?;
        }
        self.reply.cut |= said("/finish_reason") == Some("length");
        Ok(())
    }

    fn first_token(&mut self) {
        self.reply.first_token.get_or_insert_with(|| self.began.elapsed());
    }

    /// Ends the last line.
    fn end(&mut self) -> Result<()> {
        self.reply.took = self.began.elapsed();
        let rest = self.markdown.finish();
        let style = if self.thinking { RESET } else { "" };
        let mut thought = String::new();
        self.thoughts.flush(&mut thought);
        self.show(&format!("{thought}{rest}{style}\n"))
    }

    fn show(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the answer")
    }
}
