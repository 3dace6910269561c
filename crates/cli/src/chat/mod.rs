//! `perch chat`: a chat in the terminal, with a running server or one of its own.

mod args;
mod clipboard;
mod command;
mod editor;
mod markdown;
mod reply;
mod session;
mod wrap;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use perch_protocol::Health;
use perch_server::{Config, ServerHandle};
use serde_json::Value;

pub(crate) use args::Chat;
use command::Command;
use editor::{Input, LineEditor};
use reply::Reply;
use session::{Message, Role, Session};

use crate::client::Client;
use crate::{own, whole};

/// How long a server may take to say that it is there.
const KNOCK: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: &Chat, config: Config) -> Result<ExitCode> {
    let data_dir = config.data_dir.clone();
    let (client, own) = connect(args, config).await?;
    let ended = talk(args, client, &data_dir).await;
    if let Some(server) = own {
        server.shutdown(Duration::ZERO).await;
    }
    ended.map(|()| ExitCode::SUCCESS)
}

/// The running server if there is one (or one was named), else a server for the time of this chat.
async fn connect(args: &Chat, mut config: Config) -> Result<(Client, Option<ServerHandle>)> {
    let running = Client::of(&args.server, &config)?;
    let there = tokio::time::timeout(KNOCK, running.get::<Health>("/health")).await;
    if args.server.url.is_some() || matches!(there, Ok(Ok(_))) {
        return Ok((running, None));
    }
    if let Some(model) = &args.model {
        config.default_model = Some(model.clone());
    }
    let (server, client) = own::start(config).await?;
    Ok((client, Some(server)))
}

/// The chat itself, until it is ended.
async fn talk(args: &Chat, client: Client, data_dir: &Path) -> Result<()> {
    let chats = data_dir.join("chats");
    let editor = LineEditor::new(data_dir.join("chat_history"), chats.clone())?;
    let mut talk =
        Talk { client, chats, editor, session: Session::default(), attached: Vec::new(), last: None };
    if let Some(name) = &args.load {
        talk.session = Session::load(&session::path_of(name, &talk.chats)?)?;
    }
    if let Some(system) = &args.system {
        talk.session.system = Some(system.clone());
    }
    let models = talk.models().await?;
    talk.session.model = match args.model.clone().or(talk.session.model.take()) {
        Some(model) => Some(model),
        None => models.first().cloned(),
    };
    let Some(model) = &talk.session.model else {
        bail!("there are no models on this machine; `perch list` says where they are looked for");
    };
    if talk.editor.is_terminal() {
        println!("{} · /help lists the commands, Ctrl-D ends the chat\n", bold(model));
    }
    talk.editor.know_models(models);
    talk.run().await
}

/// A chat that is going on.
struct Talk {
    client: Client,
    chats: PathBuf,
    editor: LineEditor,
    session: Session,
    /// Files that go into the next message.
    attached: Vec<String>,
    last: Option<Reply>,
}

impl Talk {
    async fn run(&mut self) -> Result<()> {
        let mut interrupted = false;
        loop {
            // Reading blocks this thread; the server, if it is in this process, has others.
            let line = match tokio::task::block_in_place(|| self.editor.read())? {
                Input::End => return Ok(()),
                Input::Interrupted if interrupted => return Ok(()),
                Input::Interrupted => {
                    interrupted = true;
                    eprintln!("Ctrl-C again, Ctrl-D or /quit ends the chat.");
                    continue;
                }
                Input::Line(line) => line,
            };
            interrupted = false;
            if line.trim().is_empty() {
                continue;
            }
            let done = match line.strip_prefix('/') {
                Some(_) => match Command::parse(&line) {
                    Ok(Command::Quit) => return Ok(()),
                    Ok(command) => self.obey(command).await,
                    Err(message) => Err(anyhow::anyhow!(message)),
                },
                None => self.say(line.trim().to_string()).await,
            };
            match done {
                Ok(()) => {}
                // A person goes on; a script has to know.
                Err(error) if self.editor.is_terminal() => eprintln!("{}", red(&format!("{error:#}"))),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a message with what is attached to it. If it fails the chat is as it was before.
    async fn say(&mut self, text: String) -> Result<()> {
        let parts: Vec<String> = self.attached.iter().cloned().chain([text]).collect();
        self.session.messages.push(Message { role: Role::User, content: parts.join("\n\n") });
        let answered = self.answer().await;
        match &answered {
            Ok(()) => self.attached.clear(),
            Err(_) => drop(self.session.messages.pop()),
        }
        answered
    }

    /// Answers the last message. What the model's context has no room for is left out by whole turns, and said.
    async fn answer(&mut self) -> Result<()> {
        let styled = self.editor.is_terminal();
        let mut asked = self.session.clone();
        let mut left_out = 0;
        let reply = loop {
            match reply::ask(&self.client, &asked, styled).await {
                Err(error) if reply::is_too_long(&error) && asked.forget_oldest_turn() => left_out += 1,
                other => break other?,
            }
        };
        if styled {
            let mut footer = reply.footer();
            if left_out > 0 {
                let turns = if left_out == 1 { "turn" } else { "turns" };
                footer += &format!(" · the oldest {left_out} {turns} no longer fit and were left out");
            }
            println!("{}\n", dim(&footer));
        }
        if !reply.text.is_empty() {
            self.session.messages.push(Message { role: Role::Assistant, content: reply.text.clone() });
        }
        self.last = Some(reply);
        Ok(())
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Help => print!("{}", command::help()),
            Command::Models => self.list_models().await?,
            Command::Switch(model) => self.switch(model).await?,
            Command::System(None) => {
                println!("{}", self.session.system.as_deref().unwrap_or("There are no instructions."));
            }
            Command::System(Some(text)) => {
                self.session.system = (text != "none").then_some(text);
                println!("{}", dim("It holds from the next message on; `/system none` takes it away."));
            }
            Command::Set(None) if self.session.settings.is_empty() => {
                println!("Everything is as the server has it.");
            }
            Command::Set(None) => {
                for (name, value) in &self.session.settings {
                    println!("{name} = {value}");
                }
            }
            Command::Set(Some((name, value))) => self.session.set(&name, &value)?,
            Command::Image => bail!("no model of this version takes images; /file takes text files"),
            Command::File(path) => {
                let path = expanded(&path);
                self.attached.push(session::attached(&path)?);
                println!("{}", dim(&format!("{} goes with the next message", path.display())));
            }
            Command::Copy => {
                let answer = self.session.last_answer().context("there is no answer yet")?;
                println!("{}", dim(clipboard::copy(answer)));
            }
            Command::Retry => self.retry().await?,
            Command::Tokens => println!("{}", self.tokens()),
            Command::Clear => {
                self.session.messages.clear();
                self.attached.clear();
                self.last = None;
                println!("{}", dim("A new chat."));
            }
            Command::Save(name) => self.save(name)?,
            Command::Load(name) => {
                let loaded = Session::load(&session::path_of(&name, &self.chats)?)?;
                let model = loaded.model.clone().or(self.session.model.take());
                self.session = Session { model, ..loaded };
                println!("{}", dim(&format!("{} messages.", self.session.messages.len())));
            }
            Command::Export(file) => {
                let path = expanded(&file);
                whole::write(&path, &self.session.markdown())?;
                println!("{}", dim(&format!("Written to {}", path.display())));
            }
            Command::Quit => {}
        }
        Ok(())
    }

    /// Answers anew; if that fails the old answer stays.
    async fn retry(&mut self) -> Result<()> {
        let before = self.session.clone();
        if !self.session.take_back_answer() {
            bail!("there is nothing to answer again");
        }
        let answered = self.answer().await;
        if answered.is_err() {
            self.session = before;
        }
        answered
    }

    async fn models(&self) -> Result<Vec<String>> {
        let list: Value = self.client.get("/v1/models").await?;
        let models = list.pointer("/data").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(models.iter().filter_map(|model| Some(model["id"].as_str()?.to_string())).collect())
    }

    async fn list_models(&mut self) -> Result<()> {
        let models = self.models().await?;
        for model in &models {
            let mark = if self.session.model.as_ref() == Some(model) { "●" } else { " " };
            println!("{mark} {model}");
        }
        self.editor.know_models(models);
        Ok(())
    }

    async fn switch(&mut self, model: String) -> Result<()> {
        // The server knows aliases too, so that it is the one to ask.
        let path = format!("/v1/models/{}", model.split('/').map(encoded).collect::<Vec<_>>().join("/"));
        let _: Value = self.client.get(&path).await?;
        println!("{} answers from now on", bold(&model));
        self.session.model = Some(model);
        Ok(())
    }

    fn save(&self, name: Option<String>) -> Result<()> {
        if self.session.messages.is_empty() {
            bail!("there is nothing to save yet");
        }
        let name = name.unwrap_or_else(|| self.name());
        let path = session::path_of(&name, &self.chats)?;
        self.session.save(&path)?;
        println!("{}", dim(&format!("Saved as {}", path.display())));
        Ok(())
    }

    /// A name from the first words of the chat, that no saved chat has.
    fn name(&self) -> String {
        let first = self.session.messages.first().map(|message| message.content.as_str()).unwrap_or_default();
        let word =
            |word: &str| word.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
        let words: Vec<String> =
            first.split_whitespace().map(word).filter(|w| !w.is_empty()).take(5).collect();
        let name = if words.is_empty() { "chat".to_string() } else { words.join("-") };
        let name: String = name.chars().take(48).collect();
        let taken = |name: &str| self.chats.join(format!("{name}.json")).exists();
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        [name.clone()].into_iter().chain(numbered).find(|name| !taken(name)).unwrap_or(name)
    }

    fn tokens(&self) -> String {
        let Some([prompt, cached, completion]) = self.last.as_ref().and_then(|reply| reply.tokens) else {
            return "No answer has been counted yet.".to_string();
        };
        format!(
            "The last answer read {prompt} tokens, {cached} of them from the cache, and wrote {completion}; \
             the chat has {} messages.",
            self.session.messages.len()
        )
    }
}

/// `~` is the home folder, as in a shell.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// A path segment of a URL (RFC 3986, unreserved characters stay).
fn encoded(segment: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => (b as char).to_string(),
        _ => format!("%{b:02X}"),
    };
    segment.bytes().map(byte).collect()
}

fn styled(code: &str, text: &str) -> String {
    use std::io::IsTerminal;
    let plain =
        !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if plain { text.to_string() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

fn bold(text: &str) -> String {
    styled("1", text)
}

fn dim(text: &str) -> String {
    styled("2", text)
}

fn red(text: &str) -> String {
    styled("31", text)
}
