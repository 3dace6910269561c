//! How the menu says things: short, in the user's units.

use perch_protocol::{Phase, RequestCounts, Resources, State, Status};
use perch_server::Snapshot;

/// Characters of a line of text that explains something.
const WIDTH: usize = 56;
/// Lines of such a text.
const LINES: usize = 4;

/// The tray's icon: a state by its name.
pub(crate) fn icon_for(seen: &Snapshot) -> &'static str {
    match (seen.server.phase, seen.status.state) {
        (Phase::Starting | Phase::Stopping, _) => "starting",
        (Phase::Failed, _) | (_, State::Error) => "error",
        (Phase::Stopped, _) | (_, State::Stopped) => "stopped",
        (_, State::Starting) => "starting",
        (_, State::Idle) => "idle",
        (_, State::Active) => "active",
    }
}

/// The first line.
pub(super) fn headline(seen: &Snapshot) -> String {
    let at = seen.server.url.as_deref().map(|url| url.trim_start_matches("http://")).unwrap_or_default();
    match (seen.server.phase, seen.status.state) {
        (Phase::Stopped, _) | (Phase::Running, State::Stopped) => "Perch is stopped".to_owned(),
        (Phase::Starting, _) => "Perch is starting".to_owned(),
        (Phase::Stopping, _) => "Perch is stopping".to_owned(),
        (Phase::Failed, _) => "Perch could not start".to_owned(),
        (Phase::Running, State::Starting) => format!("Loading a model at {at}"),
        (Phase::Running, State::Idle) => format!("Ready at {at}"),
        (Phase::Running, State::Active) => format!("Answering at {at}"),
        (Phase::Running, State::Error) => format!("In trouble at {at}"),
    }
}

/// Memory and processor.
pub(super) fn resources(used: &Resources) -> String {
    format!("Memory {}, CPU {:.0} %", bytes(used.memory_bytes), used.cpu_percent)
}

/// Requests, and tokens a second while there are any.
pub(super) fn work(status: &Status) -> String {
    let RequestCounts { active, completed, failed, .. } = status.requests;
    let mut text = match (active, completed + failed) {
        (0, 0) => "No requests yet".to_owned(),
        (0, 1) => "1 request so far".to_owned(),
        (0, past) => format!("{past} requests so far"),
        (now, past) => format!("{now} now, {past} before"),
    };
    if active > 0 && status.rates.decode >= 0.1 {
        text.push_str(&format!(", {}", speed(status.rates.decode)));
    }
    text
}

/// Since when it runs, as long as that is.
pub(super) fn uptime(ms: u64) -> String {
    let minutes = ms / 60_000;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "Up for less than a minute".to_owned(),
        (0, 0, minutes) => format!("Up for {minutes} min"),
        (0, hours, minutes) => format!("Up for {hours} h {minutes} min"),
        (1, hours, _) => format!("Up for 1 day {hours} h"),
        (days, hours, _) => format!("Up for {days} days {hours} h"),
    }
}

/// `42 tokens/s`
pub(super) fn speed(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1} tokens/s") } else { format!("{rate:.0} tokens/s") }
}

fn bytes(count: u64) -> String {
    let mib = count as f64 / f64::from(1 << 20);
    if mib >= 1000.0 { format!("{:.1} GB", mib / 1024.0) } else { format!("{mib:.0} MB") }
}

/// A text in lines that a menu can show; what does not fit is left to the dashboard.
pub(super) fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(short(word)),
        }
    }
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            last.push('…');
        }
    }
    lines
}

/// A name that fits: the beginning and the end say most.
pub(super) fn short(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= WIDTH {
        return name.to_owned();
    }
    let half = WIDTH / 2;
    letters[..half - 1].iter().chain(&['…']).chain(&letters[letters.len() - half..]).collect()
}
