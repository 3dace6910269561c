//! `Session`: the chat itself: its messages and settings, and the file it is saved in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::whole;

/// Longest text file that is put into a message.
const MAX_FILE: u64 = 1 << 20;

/// A chat. This is also what a saved one looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Session {
    /// The model that answered last.
    #[serde(default)]
    pub(super) model: Option<String>,
    /// Instructions before the chat.
    #[serde(default)]
    pub(super) system: Option<String>,
    /// Fields of the request that differ from the server's own.
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
    /// What was said, by turns.
    pub(super) messages: Vec<Message>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    User,
    Assistant,
}

/// Settings that `/set` takes, and what they have to be.
pub(super) const SETTINGS: &[(&str, Kind)] = &[
    ("temperature", Kind::Number),
    ("top_p", Kind::Number),
    ("top_k", Kind::Whole),
    ("min_p", Kind::Number),
    ("repetition_penalty", Kind::Number),
    ("max_tokens", Kind::Whole),
    ("seed", Kind::Whole),
    ("thinking", Kind::Switch),
];

/// What a setting has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Whole,
    Switch,
}

impl Session {
    /// Sets a setting; `default` takes it away again. The server says whether the value is in range.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let Some((_, kind)) = SETTINGS.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
            bail!("there is no setting `{name}`; there are {}", names.join(", "));
        };
        if value == "default" {
            self.settings.remove(name);
            return Ok(());
        }
        let value = match kind {
            Kind::Number => value.parse::<f64>().ok().filter(|v| v.is_finite()).map(Value::from),
            Kind::Whole => value.parse::<u64>().ok().map(Value::from),
            Kind::Switch => match value {
                "on" | "true" | "yes" => Some(true.into()),
                "off" | "false" | "no" => Some(false.into()),
                _ => None,
            },
        };
        let expected = match kind {
            Kind::Number => "a number",
            Kind::Whole => "a whole number",
            Kind::Switch => "on or off",
        };
        let value = value.with_context(|| format!("{name} has to be {expected}, or `default`"))?;
        self.settings.insert(name.to_string(), value);
        Ok(())
    }

    /// The body of a chat request.
    pub(super) fn request(&self) -> Value {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let said = self.messages.iter().map(|message| json!(message));
        let messages: Vec<Value> = system.chain(said).collect();
        let mut body =
            json!({"stream": true, "stream_options": {"include_usage": true}, "messages": messages});
        if let Some(model) = &self.model {
            body["model"] = model.clone().into();
        }
        for (name, value) in &self.settings {
            match name.as_str() {
                "thinking" => body["chat_template_kwargs"] = json!({"enable_thinking": value}),
                _ => body[name] = value.clone(),
            }
        }
        body
    }

    /// Takes the oldest turn away, so that the rest may fit. `false` if only one is left.
    pub(super) fn forget_oldest_turn(&mut self) -> bool {
        let next = self.messages.iter().skip(1).position(|message| message.role == Role::User);
        let Some(next) = next else { return false };
        self.messages.drain(..=next);
        true
    }

    /// The last answer.
    pub(super) fn last_answer(&self) -> Option<&str> {
        self.messages.iter().rev().find(|m| m.role == Role::Assistant).map(|m| m.content.as_str())
    }

    /// Makes the last message of the user the last of all again.
    pub(super) fn take_back_answer(&mut self) -> bool {
        while self.messages.last().is_some_and(|message| message.role == Role::Assistant) {
            self.messages.pop();
        }
        !self.messages.is_empty()
    }

    /// Writes the chat; a file that is there is replaced whole.
    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        whole::write(path, &text)
    }

    /// Reads a saved chat.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not a saved chat", path.display()))
    }

    /// The chat for people to read.
    pub(super) fn markdown(&self) -> String {
        let mut out = String::from("# Chat");
        if let Some(model) = &self.model {
            out += &format!(" with {model}");
        }
        out += "\n";
        if let Some(system) = &self.system {
            out += &format!("\n> {}\n", system.replace('\n', "\n> "));
        }
        for message in &self.messages {
            let who = match message.role {
                Role::User => "You",
                Role::Assistant => "Assistant",
            };
            out += &format!("\n## {who}\n\n{}\n", message.content.trim());
        }
        out
    }
}

/// Where a saved chat lies: a name in the folder of chats, or a path.
pub(super) fn path_of(name: &str, chats: &Path) -> Result<PathBuf> {
    if name.contains('/') || name.ends_with(".json") {
        return Ok(PathBuf::from(name));
    }
    if name.starts_with('.') || name.chars().any(char::is_control) {
        bail!("`{name}` is not a name for a chat");
    }
    Ok(chats.join(format!("{name}.json")))
}

/// Names of the saved chats.
pub(super) fn saved(chats: &Path) -> Vec<String> {
    let entries = fs::read_dir(chats).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_string))
        .collect();
    names.sort();
    names
}

/// A text file as part of a message.
pub(super) fn attached(path: &Path) -> Result<String> {
    let shown = path.display();
    let length = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    if length > MAX_FILE {
        bail!("{shown} is longer than 1 MB");
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.with_context(|| format!("{shown} is not a text file"))?;
    // A fence that the text does not end early.
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{name}:\n{fence}\n{}\n{fence}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, content: &str) -> Message {
        Message { role, content: content.to_string() }
    }

    fn session() -> Session {
        let messages = ["a", "b", "c", "d", "e"].into_iter().enumerate();
        let role = |i| if i % 2 == 0 { Role::User } else { Role::Assistant };
        Session {
            system: Some("Be brief.".into()),
            messages: messages.map(|(i, text)| said(role(i), text)).collect(),
            ..Session::default()
        }
    }

    #[test]
    fn a_saved_chat_is_the_same_when_it_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut session = session();
        session.set("temperature", "0.5").unwrap();
        session.set("thinking", "off").unwrap();
        let path = path_of("my trip", dir.path()).unwrap();
        session.save(&path).unwrap();
        assert_eq!(Session::load(&path).unwrap(), session);
        assert_eq!(saved(dir.path()), ["my trip"]);
    }

    #[test]
    fn whole_turns_are_forgotten_and_the_last_is_kept() {
        let mut session = session();
        assert!(session.forget_oldest_turn());
        assert_eq!(session.messages[0], said(Role::User, "c"));
        assert!(session.forget_oldest_turn());
        assert!(!session.forget_oldest_turn());
        assert_eq!(session.messages, [said(Role::User, "e")]);
        assert_eq!(session.request()["messages"][0]["role"], "system");
    }

    #[test]
    fn settings_go_into_the_request_under_their_names() {
        let mut session = session();
        session.set("max_tokens", "7").unwrap();
        session.set("thinking", "on").unwrap();
        let body = session.request();
        assert_eq!(body["max_tokens"], 7);
        assert_eq!(body["chat_template_kwargs"]["enable_thinking"], true);
        session.set("max_tokens", "default").unwrap();
        assert!(session.request().get("max_tokens").is_none());
        for (name, value) in
            [("max_tokens", "-1"), ("temperature", "warm"), ("thinking", "maybe"), ("x", "1")]
        {
            assert!(session.set(name, value).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_file_cannot_leave_its_fence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.md");
        fs::write(&path, "```\ncode\n```\n").unwrap();
        assert_eq!(attached(&path).unwrap(), "notes.md:\n````\n```\ncode\n```\n````");
        fs::write(&path, b"a\0b").unwrap();
        assert!(attached(&path).is_err());
    }

    #[test]
    fn a_name_of_a_chat_stays_in_the_folder_of_chats() {
        let chats = Path::new("/data/chats");
        assert_eq!(path_of("trip", chats).unwrap(), Path::new("/data/chats/trip.json"));
        assert_eq!(path_of("./x.json", chats).unwrap(), Path::new("./x.json"));
        assert!(path_of("..", chats).is_err());
    }
}
