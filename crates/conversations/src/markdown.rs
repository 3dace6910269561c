//! A branch as Markdown, and back.
//!
//! What Markdown has no place for stands in comments that no reader sees: `<!-- perch:message {…} -->` before each
//! message. A text without them is read by its headings `## User`, `## Assistant`, `## System`, `## Tool` (outside of
//! code fences) and its title `# …`.

use perch_protocol::conversations::{Conversation, ConversationDetail, ConversationMessage, MessageState};
use perch_protocol::openai::{Content, Role};
use serde_json::{Map, Value, json};

use crate::error::StoreError;
use crate::id::{is_id, new_id, now};
use crate::messages::{plain, role_name, role_of};
use crate::title::{NEW_TITLE, title_from};
use crate::turns::blank;

const OPEN: &str = "<!-- perch:";
const CLOSE: &str = " -->";

/// Writes a conversation's branch.
pub(crate) fn write(conversation: &Conversation, path: &[ConversationMessage]) -> String {
    let mut about = json!({"auto_title": conversation.auto_title, "created_at": conversation.created_at});
    for (key, value) in [("model", &conversation.model), ("system_prompt", &conversation.system_prompt)] {
        if let Some(value) = value {
            about[key] = value.as_str().into();
        }
    }
    let mut out = format!("# {}\n\n{}\n", conversation.title, comment("conversation", &about));
    if let Some(prompt) = &conversation.system_prompt {
        let quoted: Vec<String> =
            prompt.lines().map(|line| format!("> {line}").trim_end().to_owned()).collect();
        out.push_str(&format!("\n{}\n", quoted.join("\n")));
    }
    for message in path {
        let mut about = json!({"role": role_name(message.role), "created_at": message.created_at});
        for (key, value) in [
            ("model", &message.model),
            ("reasoning", &message.reasoning),
            ("tool_call_id", &message.tool_call_id),
        ] {
            if let Some(value) = value {
                about[key] = value.as_str().into();
            }
        }
        if !message.tool_calls.is_empty() {
            about["tool_calls"] = json!(message.tool_calls);
        }
        if message.state != MessageState::Complete {
            about["state"] = json!(message.state);
        }
        out.push_str(&format!("\n{}\n## {}\n\n", comment("message", &about), heading(message.role)));
        let text = plain(&message.content);
        for line in text.split('\n') {
            out.push_str(&escaped(line));
            out.push('\n');
        }
    }
    out
}

fn heading(role: Role) -> &'static str {
    match role {
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::Tool => "Tool",
        Role::System | Role::Developer => "System",
    }
}

/// A comment with data. Nothing in it can end it early.
fn comment(kind: &str, data: &Value) -> String {
    format!("{OPEN}{kind} {}{CLOSE}", data.to_string().replace('>', "\\u003e").replace('<', "\\u003c"))
}

/// A line of a message that looks like one of our comments gets a backslash more.
fn escaped(line: &str) -> String {
    match line.strip_prefix("<!-- ").map(|rest| rest.trim_start_matches('\\')) {
        Some(rest) if rest.starts_with("perch:") => line.replacen("<!-- ", "<!-- \\", 1),
        _ => line.to_owned(),
    }
}

fn unescaped(line: &str) -> String {
    match line.strip_prefix("<!-- \\").map(|rest| rest.trim_start_matches('\\')) {
        Some(rest) if rest.starts_with("perch:") => line.replacen("<!-- \\", "<!-- ", 1),
        _ => line.to_owned(),
    }
}

/// Reads a conversation: one branch, new ids.
pub(crate) fn read(text: &str) -> Result<ConversationDetail, StoreError> {
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let marked = lines.iter().any(|line| line.starts_with("<!-- perch:message "));
    let mut reader = Reader::default();
    let mut fenced = false;
    for (number, line) in lines.iter().enumerate() {
        match marked {
            true => reader.marked(line, number + 1)?,
            false => {
                fenced ^= line.trim_start().starts_with("```");
                reader.plain(line, fenced);
            }
        }
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    conversation: Conversation,
    messages: Vec<ConversationMessage>,
    /// Lines of the last message so far.
    lines: Vec<String>,
    /// The heading of a marked message comes next.
    at_heading: bool,
}

impl Reader {
    fn marked(&mut self, line: &str, number: usize) -> Result<(), StoreError> {
        let fail = |reason: &str| StoreError::invalid("markdown", format!("line {number}: {reason}"));
        if let Some(rest) = line.strip_prefix(OPEN) {
            let inside = rest.strip_suffix(CLOSE).and_then(|inside| inside.split_once(' '));
            let (kind, data) = inside.ok_or_else(|| fail("this comment of Perch's is not whole"))?;
            let data: Map<String, Value> =
                serde_json::from_str(data).map_err(|error| fail(&error.to_string()))?;
            let text = |key: &str| data.get(key).and_then(Value::as_str).map(str::to_owned);
            let created_at = data.get("created_at").and_then(Value::as_u64).unwrap_or_else(now);
            match kind {
                "conversation" if self.messages.is_empty() => {
                    self.conversation.auto_title =
                        data.get("auto_title").and_then(Value::as_bool).unwrap_or(false);
                    self.conversation.created_at = created_at;
                    self.conversation.model = text("model");
                    self.conversation.system_prompt = text("system_prompt");
                }
                "message" => {
                    let role = text("role").as_deref().and_then(role_of);
                    self.begin(role.ok_or_else(|| fail("a message needs a `role`"))?);
                    self.at_heading = true;
                    let read = |key: &str| data.get(key).cloned().unwrap_or(Value::Null);
                    if let Some(message) = self.messages.last_mut() {
                        message.created_at = created_at;
                        message.model = text("model");
                        message.reasoning = text("reasoning");
                        message.tool_call_id = text("tool_call_id");
                        let calls = serde_json::from_value(read("tool_calls"));
                        message.tool_calls = calls.unwrap_or_default();
                        message.state = serde_json::from_value(read("state")).unwrap_or_default();
                    }
                }
                _ => return Err(fail("Perch knows no such comment")),
            }
        } else if self.messages.is_empty() {
            self.before(line);
        } else if std::mem::take(&mut self.at_heading) && line.starts_with("## ") {
            // For people; the comment has said who speaks.
        } else {
            self.lines.push(unescaped(line));
        }
        Ok(())
    }

    fn plain(&mut self, line: &str, fenced: bool) {
        let role = line.strip_prefix("## ").filter(|_| !fenced);
        match role.and_then(|name| role_of(&name.trim().to_ascii_lowercase())) {
            Some(role) => self.begin(role),
            None if self.messages.is_empty() => self.before(line),
            None => self.lines.push(line.to_owned()),
        }
    }

    /// What stands before the first message: a title, and things to read.
    fn before(&mut self, line: &str) {
        if let Some(title) = line.strip_prefix("# ").filter(|_| self.conversation.title.is_empty()) {
            title.trim().clone_into(&mut self.conversation.title);
        }
    }

    fn begin(&mut self, role: Role) {
        self.end();
        let mut message = blank(role, Content::Text(String::new()), MessageState::Complete);
        message.parent = self.messages.last().map(|last| last.id.clone());
        self.messages.push(message);
    }

    fn end(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if let Some(message) = self.messages.last_mut() {
            // One empty line after the heading and one before the next comment are ours; the rest is the message's.
            let text = lines.join("\n");
            let text = text.strip_prefix('\n').unwrap_or(&text);
            message.content = Content::Text(text.strip_suffix('\n').unwrap_or(text).to_owned());
        }
    }

    fn finish(mut self) -> Result<ConversationDetail, StoreError> {
        self.end();
        let Some(last) = self.messages.last() else {
            let message = "there are no messages; begin each with a heading `## User` or `## Assistant`";
            return Err(StoreError::invalid("markdown", message));
        };
        debug_assert!(is_id(&last.id));
        let head = Some(last.id.clone());
        let first = self.messages.iter().find(|message| message.role == Role::User);
        if self.conversation.title.is_empty() {
            self.conversation.title =
                first.map_or(NEW_TITLE.to_owned(), |first| title_from(&plain(&first.content)));
            self.conversation.auto_title = true;
        }
        let now = now();
        let created_at = if self.conversation.created_at == 0 { now } else { self.conversation.created_at };
        let message_count = self.messages.len() as u64;
        let conversation = Conversation {
            id: new_id(),
            created_at,
            updated_at: now,
            message_count,
            head,
            ..self.conversation
        };
        Ok(ConversationDetail { conversation, messages: self.messages, has_more: false })
    }
}
