//! `perch chat` in a pseudo-terminal and in a pipe, with a real model whose words have no sense.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use perch_tests::{Perch, RandomModel, Terminal};

fn home() -> Perch {
    RandomModel::TINY.home("tiny")
}

fn chat(perch: &Perch) -> Terminal {
    let mut command = perch.command(["chat"]);
    // A port where nothing answers, so that the chat starts its own server.
    command.env("PERCH_PORT", "1");
    let terminal = Terminal::start(&command, 50, 100);
    terminal.shows("tiny · /help lists the commands");
    enter(&terminal, "/set max_tokens 12");
    enter(&terminal, "/set temperature 0");
    terminal
}

/// Types a line once there is a prompt, as a person does who looks at the screen.
fn enter(terminal: &Terminal, line: &str) {
    prompt(terminal);
    terminal.keys(line);
    terminal.until("what was typed", |screen| screen.replace('\n', "").trim_end().ends_with(line.trim_end()));
    terminal.keys("\r");
}

fn prompt(terminal: &Terminal) {
    terminal.until("a prompt", |screen| screen.trim_end().ends_with('›'));
}

/// Sends a message and waits for the line under its answer.
fn say(terminal: &Terminal, text: &str) {
    let before = terminal.text().matches("first after").count();
    enter(terminal, text);
    terminal.until("an answer", |screen| screen.matches("first after").count() > before);
}

#[test]
fn answers_are_counted_saved_and_loaded_again() {
    let perch = home();
    let terminal = chat(&perch);
    say(&terminal, "Hello");
    assert!(terminal.text().contains("12 tokens"), "{}", terminal.text());
    say(&terminal, "And again");
    enter(&terminal, "/tokens");
    terminal.shows("the chat has 4 messages");
    enter(&terminal, "/save trip");
    terminal.shows("Saved as");
    let saved = fs::read_to_string(perch.data_dir().join("chats/trip.json")).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(saved["messages"].as_array().unwrap().len(), 4);
    assert_eq!(saved["messages"][2]["content"], "And again");
    assert_eq!(saved["settings"]["max_tokens"], 12);

    let file = perch.data_dir().join("chat.md");
    enter(&terminal, &format!("/export {}", file.display()));
    terminal.shows("Written to");
    assert!(fs::read_to_string(&file).unwrap().contains("## You\n\nAnd again"));

    enter(&terminal, "/clear");
    terminal.shows("A new chat.");
    enter(&terminal, "/save empty");
    terminal.shows("there is nothing to save yet");
    enter(&terminal, "/load trip");
    terminal.shows("4 messages.");
    say(&terminal, "More");
    enter(&terminal, "/retry");
    terminal.until("a second answer", |screen| screen.matches("first after").count() >= 4);
    enter(&terminal, "/tokens");
    terminal.shows("the chat has 6 messages");
    enter(&terminal, "/quit");
    assert!(terminal.ends().success());
}

#[test]
fn every_command_answers_and_mistakes_are_explained() {
    let perch = home();
    let terminal = chat(&perch);
    enter(&terminal, "/help");
    for name in ["/models", "/switch MODEL", "/system [TEXT]", "/image PATH", "/export FILE.md", "/quit"] {
        terminal.shows(name);
    }
    enter(&terminal, "/models");
    terminal.shows("● tiny");
    enter(&terminal, "/switch nothing-like-it");
    terminal.shows("nothing-like-it");
    terminal.shows("there is no model");
    enter(&terminal, "/switch tiny");
    terminal.shows("tiny answers from now on");
    enter(&terminal, "/system Be brief.");
    terminal.shows("holds from the next message on");
    enter(&terminal, "/set temperature warm");
    terminal.shows("temperature has to be a number");
    enter(&terminal, "/hepl");
    terminal.shows("did you mean /help?");
    enter(&terminal, "/image x.png");
    terminal.shows("no model of this version takes images");
    enter(&terminal, "/copy");
    terminal.shows("there is no answer yet");
    let notes = perch.data_dir().join("notes.txt");
    fs::write(&notes, "A line of notes.\n").unwrap();
    enter(&terminal, &format!("/file {}", notes.display()));
    terminal.shows("goes with the next message");
    say(&terminal, "Sum it up");
    enter(&terminal, "/save files");
    terminal.shows("Saved as");
    let saved = fs::read_to_string(perch.data_dir().join("chats/files.json")).unwrap();
    assert!(saved.contains("notes.txt:\\n```\\nA line of notes.\\n```\\n\\nSum it up"), "{saved}");
    enter(&terminal, "/copy");
    terminal.shows("opied");
    prompt(&terminal);
    terminal.keys("\x04");
    assert!(terminal.ends().success());
}

const QUESTION: &str = "Tell me everything";

/// What stands on the screen after the last time that the question was asked.
fn since_asked(screen: &str) -> &str {
    screen.rsplit(QUESTION).next().unwrap_or_default()
}

#[test]
fn ctrl_c_stops_the_answer_and_not_the_chat() {
    let perch = home();
    let terminal = chat(&perch);
    enter(&terminal, "/set max_tokens 100000");
    terminal.shows("max_tokens 100000");
    enter(&terminal, "/set temperature 1");
    // A model whose words have no sense may end its answer first, in a few milliseconds; then it is asked again.
    let stopped = (0..50).any(|_| {
        enter(&terminal, QUESTION);
        terminal.until("the answer's beginning", |screen| since_asked(screen).trim().len() > 20);
        terminal.keys("\x03");
        let over = |screen: &str| {
            since_asked(screen).contains("· stopped") || since_asked(screen).contains("Ctrl-C again")
        };
        since_asked(&terminal.until("the end of the answer", over)).contains("· stopped")
    });
    assert!(stopped, "{}", terminal.text());
    enter(&terminal, "/set max_tokens 8");
    say(&terminal, "Still there?");
    prompt(&terminal);
    terminal.keys("\x03");
    terminal.shows("Ctrl-C again");
    prompt(&terminal);
    terminal.keys("\x03");
    assert!(terminal.ends().success());
}

#[test]
fn lines_are_joined_completed_and_survive_a_resize() {
    let perch = home();
    let terminal = chat(&perch);
    prompt(&terminal);
    terminal.keys("/swi\t");
    terminal.shows("› /switch");
    terminal.keys(" ti\t\r");
    terminal.shows("tiny answers from now on");
    prompt(&terminal);
    terminal.keys("one\\\rtwo");
    terminal.resize(30, 60);
    terminal.keys(" and a half\r");
    terminal.shows("first after");
    enter(&terminal, "/save lines");
    terminal.shows("Saved as");
    let saved = fs::read_to_string(perch.data_dir().join("chats/lines.json")).unwrap();
    assert!(saved.contains("one\\ntwo and a half"), "{saved}");
    enter(&terminal, "/quit");
    assert!(terminal.ends().success());
    // What was typed comes back in the next chat.
    let terminal = chat(&perch);
    prompt(&terminal);
    terminal.keys("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A");
    terminal.shows("two and a half");
}

#[test]
fn a_running_server_is_used_and_a_lost_one_is_told() {
    let server = home().serve::<&str>([]);
    let other = Perch::new();
    let command = other.command(["chat", "--url", &server.url]);
    let terminal = Terminal::start(&command, 50, 100);
    terminal.shows("tiny · /help");
    enter(&terminal, "/set max_tokens 5");
    say(&terminal, "Hello");
    assert!(!other.data_dir().join("conversations.db").exists(), "a server of its own was started");
    drop(server);
    enter(&terminal, "Are you there?");
    terminal.shows("no server answers at");
    enter(&terminal, "/tokens");
    terminal.shows("the chat has 2 messages");
}

#[test]
fn piped_lines_are_answered_without_colours() {
    let perch = home();
    let mut command = perch.command(["chat", "--system", "Be brief."]);
    command.env("PERCH_PORT", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = "/set max_tokens 6\nHello\n/tokens\n";
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{err}");
    assert!(!out.contains('\x1b'), "{out:?}");
    assert!(out.contains("the chat has 2 messages"), "{out}");

    let mut command = perch.command(["chat", "no-such-model"]);
    command.env("PERCH_PORT", "1").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-model"));
}
