//! What a user can type after a slash. One table serves the parser, `/help` and completion.

/// A command with its argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    Models,
    Switch(String),
    Save(Option<String>),
    Load(String),
    Clear,
    System(Option<String>),
    Set(Option<(String, String)>),
    Image,
    File(String),
    Copy,
    Retry,
    Tokens,
    Export(String),
    Quit,
}

/// A row of the table: name, argument, what it does.
pub(super) struct Entry {
    pub(super) name: &'static str,
    pub(super) argument: &'static str,
    pub(super) help: &'static str,
}

const fn entry(name: &'static str, argument: &'static str, help: &'static str) -> Entry {
    Entry { name, argument, help }
}

pub(super) const TABLE: &[Entry] = &[
    entry("help", "", "show this list"),
    entry("models", "", "list the models"),
    entry("switch", "MODEL", "go on with another model"),
    entry("system", "[TEXT]", "show or set the instructions that stand before the chat"),
    entry("set", "[NAME VALUE]", "show or set temperature, top_p, max_tokens, seed, thinking, …"),
    entry("file", "PATH", "put a text file into the next message"),
    entry("image", "PATH", "put an image into the next message (no model takes images yet)"),
    entry("retry", "", "answer the last message again"),
    entry("copy", "", "copy the last answer to the clipboard"),
    entry("tokens", "", "show what the chat costs in tokens"),
    entry("clear", "", "begin anew; instructions and settings stay"),
    entry("save", "[NAME]", "save the chat"),
    entry("load", "NAME", "go on with a saved chat"),
    entry("export", "FILE.md", "write the chat as Markdown"),
    entry("quit", "", "end the chat (Ctrl-D does too)"),
];

impl Command {
    /// The command of a line that begins with a slash. The error is for the user.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim().trim_start_matches('/');
        let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let argument = argument.trim();
        let some = || (!argument.is_empty()).then(|| argument.to_string());
        let needed = || some().ok_or_else(|| usage(name));
        let command = match name {
            "help" | "?" => Self::Help,
            "models" => Self::Models,
            "switch" | "model" => Self::Switch(needed()?),
            "save" => Self::Save(some()),
            "load" => Self::Load(needed()?),
            "clear" | "new" => Self::Clear,
            "system" => Self::System(some()),
            "set" => Self::Set(match argument.split_once(char::is_whitespace) {
                Some((key, value)) => Some((key.to_string(), value.trim().to_string())),
                None if argument.is_empty() => None,
                None => return Err(usage(name)),
            }),
            "image" => Self::Image,
            "file" => Self::File(needed()?),
            "copy" => Self::Copy,
            "retry" | "regenerate" => Self::Retry,
            "tokens" => Self::Tokens,
            "export" => Self::Export(needed()?),
            "quit" | "exit" | "bye" => Self::Quit,
            _ => return Err(unknown(name)),
        };
        match (&command, argument) {
            (
                Self::Help
                | Self::Models
                | Self::Clear
                | Self::Copy
                | Self::Retry
                | Self::Tokens
                | Self::Quit,
                extra,
            ) if !extra.is_empty() => Err(usage(name)),
            _ => Ok(command),
        }
    }
}

fn usage(name: &str) -> String {
    let entry = TABLE.iter().find(|entry| entry.name == name);
    match entry {
        Some(entry) if entry.argument.is_empty() => format!("/{name} takes nothing after it"),
        Some(entry) => format!("usage: /{name} {}", entry.argument),
        None => format!("/{name} is used otherwise; see /help"),
    }
}

fn unknown(name: &str) -> String {
    let near = TABLE
        .iter()
        .map(|entry| (strsim::damerau_levenshtein(entry.name, name), entry.name))
        .min()
        .filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, near)) => format!("there is no /{name}; did you mean /{near}?"),
        None => format!(
            "there is no /{name}; /help lists the commands. To send a line that begins with a slash, put a space first"
        ),
    }
}

/// The list that `/help` shows.
pub(super) fn help() -> String {
    let rows = TABLE.iter().map(|entry| {
        let call = format!("/{} {}", entry.name, entry.argument);
        format!("  {:<20} {}\n", call.trim_end(), entry.help)
    });
    let keys = "\n  Ctrl-C stops an answer. Up and down go through what you wrote, Tab completes.\n  \
                A line that ends in \\ goes on, and so does an open ``` fence; Alt-Enter breaks a line.\n";
    rows.chain([keys.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_the_table_is_understood() {
        for entry in TABLE {
            let argument = match entry.argument {
                "" => "",
                "[NAME VALUE]" => "temperature 0.5",
                _ => "x",
            };
            let line = format!("/{} {argument}", entry.name);
            assert!(Command::parse(&line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(Command::parse("/switch").unwrap_err().contains("usage: /switch MODEL"));
        assert!(Command::parse("/hepl").unwrap_err().contains("did you mean /help?"));
        assert!(Command::parse("/xyzzy").unwrap_err().contains("/help lists"));
        assert!(Command::parse("/quit now").is_err());
        assert!(Command::parse("/set temperature").is_err());
    }

    #[test]
    fn arguments_keep_their_spaces() {
        assert_eq!(Command::parse("/file  my notes.txt "), Ok(Command::File("my notes.txt".into())));
        assert_eq!(Command::parse("/set top_p  0.9"), Ok(Command::Set(Some(("top_p".into(), "0.9".into())))));
    }
}
