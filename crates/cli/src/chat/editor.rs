//! `LineEditor`: where a person types: history, completion, several lines.
//!
//! Without a terminal it reads plain lines and writes no prompt.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Cmd, CompletionType, Config, Context, Editor, Helper, KeyCode, KeyEvent, Modifiers};

use super::command::TABLE;
use super::session::{SETTINGS, saved};

const HISTORY: usize = 2_000;

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of what is piped in.
    End,
}

/// Reads what a person types, or what is piped in.
pub(super) enum LineEditor {
    Terminal { editor: Box<Editor<Words, FileHistory>>, history: PathBuf },
    Pipe,
}

impl LineEditor {
    /// An editor with the history of earlier chats.
    pub(super) fn new(history: PathBuf, chats: PathBuf) -> Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return Ok(Self::Pipe);
        }
        let config = Config::builder()
            .completion_type(CompletionType::List)
            .history_ignore_space(true)
            .max_history_size(HISTORY)
            .context("cannot keep a history")?
            .bracketed_paste(true)
            .build();
        let mut editor = Editor::with_config(config).context("cannot use this terminal")?;
        editor.set_helper(Some(Words { models: Vec::new(), chats, files: FilenameCompleter::new() }));
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), Cmd::Newline);
        // The first chat has no history yet.
        let _ = editor.load_history(&history);
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether a person sees this.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Models that `/switch` completes.
    pub(super) fn know_models(&mut self, models: Vec<String>) {
        if let Self::Terminal { editor, .. } = self
            && let Some(words) = editor.helper_mut()
        {
            words.models = models;
        }
    }

    /// The next message or command.
    pub(super) fn read(&mut self) -> Result<Input> {
        let Self::Terminal { editor, history } = self else { return next_line() };
        match editor.readline(&("› ", "\x1b[1;32m›\x1b[0m ")) {
            Ok(line) => {
                if !line.trim().is_empty() && editor.add_history_entry(&line).is_ok_and(|added| added) {
                    if let Some(folder) = history.parent() {
                        let _ = std::fs::create_dir_all(folder);
                    }
                    let _ = editor.append_history(history);
                }
                Ok(Input::Line(joined(&line)))
            }
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(error).context("cannot read from the terminal"),
        }
    }
}

fn next_line() -> Result<Input> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).context("standard input is not text in UTF-8")?;
    Ok(if read == 0 { Input::End } else { Input::Line(line.trim_end_matches(['\r', '\n']).to_string()) })
}

/// A backslash at the end of a line joined it to the next.
fn joined(line: &str) -> String {
    line.replace("\\\n", "\n")
}

/// What completes: commands, models, settings, saved chats, files.
pub(super) struct Words {
    models: Vec<String>,
    chats: PathBuf,
    files: FilenameCompleter,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let Some((command, argument)) = typed.split_once(' ') else {
            let names = TABLE.iter().map(|entry| format!("/{}", entry.name));
            return Ok((0, beginning(typed, names.filter(|_| typed.starts_with('/')))));
        };
        let start = pos - argument.len();
        let words: Vec<String> = match command {
            "/switch" | "/model" => self.models.clone(),
            "/set" => SETTINGS.iter().map(|(name, _)| format!("{name} ")).collect(),
            "/load" => saved(&self.chats),
            "/file" | "/image" | "/export" => return self.files.complete_path(line, pos),
            _ => Vec::new(),
        };
        Ok((start, beginning(argument, words.into_iter())))
    }
}

fn beginning(typed: &str, words: impl Iterator<Item = String>) -> Vec<Pair> {
    words
        .filter(|word| word.starts_with(typed))
        .map(|word| Pair { display: word.trim_end().to_string(), replacement: word })
        .collect()
}

impl Validator for Words {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if goes_on(context.input()) {
            ValidationResult::Incomplete
        } else {
            ValidationResult::Valid(None)
        })
    }
}

/// Whether Enter begins a new line instead of sending.
fn goes_on(input: &str) -> bool {
    let fences = input.lines().filter(|line| line.trim_start().starts_with("```")).count();
    input.ends_with('\\') || fences % 2 == 1
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let models = vec!["guide".to_string(), "Qwen/Qwen3-0.6B".to_string()];
        Words { models, chats: PathBuf::from("/nowhere"), files: FilenameCompleter::new() }
    }

    fn completions(line: &str) -> (usize, Vec<String>) {
        let history = FileHistory::new();
        let (start, pairs) = words().complete(line, line.len(), &Context::new(&history)).unwrap();
        (start, pairs.into_iter().map(|pair| pair.replacement).collect())
    }

    #[test]
    fn commands_models_and_settings_are_completed() {
        assert_eq!(completions("/sw"), (0, vec!["/switch".to_string()]));
        assert_eq!(completions("/switch Q"), (8, vec!["Qwen/Qwen3-0.6B".to_string()]));
        assert_eq!(completions("/set temp"), (5, vec!["temperature ".to_string()]));
        assert_eq!(completions("hello"), (0, Vec::new()));
    }

    #[test]
    fn an_open_fence_and_a_backslash_go_on() {
        assert!(goes_on("```\nlet a"));
        assert!(!goes_on("```\nlet a\n```"));
        assert!(goes_on("one\\"));
        assert!(!goes_on("one"));
        assert_eq!(joined("one\\\ntwo"), "one\ntwo");
    }
}
