//! `perch run`: one question, one answer on standard output.
//!
//! Starts a server of its own on a free port and asks that, so that an answer here is the answer any client gets.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use perch_hub::Source;
use perch_server::Config;
use serde_json::{Value, json};

use crate::args::Run;
use crate::client::{Client, Events, Refused};
use crate::progress::Progress;
use crate::{models, own, text};

/// Longest text that is read from standard input.
const MAX_INPUT: u64 = 8 << 20;

pub(crate) async fn run(args: &Run, mut config: Config) -> Result<ExitCode> {
    let (model, prompt) = match args.words.as_slice() {
        [] => (None, piped()?.context("there is nothing to answer; give a prompt, or pipe one in")?),
        [prompt] => (None, with_input(prompt)?),
        [model, prompt, ..] => (Some(model.as_str()), with_input(prompt)?),
    };
    let library = models::library(&config);
    let (id, default) = match models::built_in(model, &library, &config) {
        Some(guide) => (guide.id.to_string(), guide.id.to_string()),
        None => {
            let chosen = models::chosen(model, &library, &config)?;
            let default = match chosen.source {
                // By its path again, so that the server finds what is not in the library.
                Source::Path => model.map_or(chosen.path.display().to_string(), str::to_string),
                _ => model.or(config.default_model.as_deref()).unwrap_or(&chosen.id).to_string(),
            };
            (chosen.id, default)
        }
    };
    config.default_model = Some(default);
    let (server, client) = own::start(config).await?;
    let answered = tokio::select! {
        answered = answer(args, &client, prompt, &id) => answered,
        _ = tokio::signal::ctrl_c() => {
            println!();
            Ok(ExitCode::from(130))
        }
    };
    server.shutdown(Duration::ZERO).await;
    answered
}

async fn answer(args: &Run, client: &Client, prompt: String, model: &str) -> Result<ExitCode> {
    let progress = Progress::start(format!("Loading {model}"));
    let mut events = ask(args, client, prompt).await?;
    let mut first = events.next().await?;
    drop(progress);
    let mut ending = Ending::default();
    while let Some(event) = first {
        ending.take(&serde_json::from_str(&event).context("the answer is not JSON")?)?;
        first = events.next().await?;
    }
    println!();
    if ending.was_cut {
        eprintln!("(the answer was cut off: it reached the most tokens allowed)");
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks as a chat; a model without a chat template continues the text instead.
async fn ask(args: &Run, client: &Client, prompt: String) -> Result<Events> {
    let mut body = json!({"stream": true});
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body[key] = value;
        }
    };
    set("max_tokens", args.max_tokens.map(Value::from));
    set("temperature", args.temperature.map(Value::from));
    set("seed", args.seed.map(Value::from));
    let system = args.system.iter().map(|system| json!({"role": "system", "content": system}));
    let messages: Vec<Value> = system.chain([json!({"role": "user", "content": prompt})]).collect();
    let mut chat = body.clone();
    chat["messages"] = messages.into();
    match client.post("/v1/chat/completions", &chat).await {
        Err(error) if has_no_template(&error) => {
            body["prompt"] = prompt.into();
            client.post("/v1/completions", &body).await
        }
        answered => answered,
    }
}

fn has_no_template(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code.as_deref() == Some("template_error"))
}

/// Writes an answer as it comes, and keeps how it ended.
#[derive(Default)]
struct Ending {
    was_cut: bool,
}

impl Ending {
    fn take(&mut self, event: &Value) -> Result<()> {
        if let Some(message) = event.pointer("/error/message").and_then(Value::as_str) {
            bail!("{message}");
        }
        let Some(choice) = event.pointer("/choices/0") else { return Ok(()) };
        let said = |path: &str| choice.pointer(path).and_then(Value::as_str);
        let terminal = std::io::stdout().is_terminal();
        // What a model thinks is shown to a person, and kept out of what a script reads.
        if let Some(thought) = said("/delta/reasoning_content").filter(|_| terminal) {
            eprint!("{}", text::printable(thought));
        }
        if let Some(content) = said("/delta/content").or_else(|| said("/text")) {
            let mut out = std::io::stdout().lock();
            match terminal {
                true => write!(out, "{}", text::printable(content))?,
                false => write!(out, "{content}")?,
            }
            out.flush()?;
        }
        self.was_cut |= said("/finish_reason") == Some("length");
        Ok(())
    }
}

/// The prompt, and what is piped in under it.
fn with_input(prompt: &str) -> Result<String> {
    Ok(match piped()? {
        Some(input) => format!("{prompt}\n\n{input}"),
        None => prompt.to_string(),
    })
}

/// Standard input, unless it is a terminal or empty.
fn piped() -> Result<Option<String>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut input = String::new();
    stdin.take(MAX_INPUT + 1).read_to_string(&mut input).context("standard input is not text in UTF-8")?;
    if input.len() as u64 > MAX_INPUT {
        bail!("standard input is longer than {}", text::bytes(MAX_INPUT));
    }
    let input = input.trim_end();
    Ok((!input.is_empty()).then(|| input.to_string()))
}
