//! A soak: four clients that never stop asking one server, for as long as is wished. No answer may be missing, and memory
//! must stop growing.

use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::server::{self, Server, resident};

/// Clients at once.
const CLIENTS: usize = 4;
/// Tokens of each answer.
const TOKENS: usize = 48;
/// How often memory is read.
const SAMPLE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Seen {
    first_token: Vec<Duration>,
    tokens: usize,
    failures: Vec<String>,
}

/// Soaks for `minutes` and prints what was seen as Markdown.
///
/// # Errors
/// When an answer failed; the figures are printed all the same.
pub(super) fn run(perch: &Path, model: &Path, minutes: f64) -> Result<()> {
    let server = server::start(perch, model.parent().context("a model lies in a folder")?)?;
    let id = model.file_stem().context("a model has a name")?.to_string_lossy().to_string();
    server.complete(&id, "warm up", 2)?;
    let (start, length) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let seen = Mutex::new(Seen::default());
    let memory = thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, seen, id) = (&server, &seen, &id);
            scope.spawn(move || ask_until(server, seen, id, (client, start + length)));
        }
        let mut memory: Vec<u64> = Vec::new();
        while start.elapsed() < length {
            memory.extend(resident(server.pid()));
            thread::sleep(SAMPLE.min(length.saturating_sub(start.elapsed())));
        }
        memory
    });
    let seen = seen.into_inner().map_err(|_| anyhow::anyhow!("a client panicked"))?;
    println!("{}", markdown(&seen, &memory, start.elapsed()));
    match seen.failures.first() {
        Some(first) => bail!("{} answers failed; the first: {first}", seen.failures.len()),
        None => Ok(()),
    }
}

fn ask_until(server: &Server, seen: &Mutex<Seen>, model: &str, (client, end): (usize, Instant)) {
    for turn in 0.. {
        if Instant::now() >= end {
            return;
        }
        // Prompts of many lengths; every fourth begins as the one before and is found in the prefix cache.
        let prompt = format!("{client}-{}: {}", turn / 4, "abcdefgh".repeat(1 + turn % 24));
        let answer = server.stream(model, &prompt, TOKENS);
        let Ok(mut seen) = seen.lock() else { return };
        match answer {
            Ok((first, tokens)) => {
                seen.first_token.push(first);
                seen.tokens += tokens;
            }
            Err(error) => seen.failures.push(format!("{error:#}")),
        }
        let failed = seen.failures.len();
        drop(seen);
        if failed > 1000 {
            return;
        }
    }
}

fn markdown(seen: &Seen, memory: &[u64], took: Duration) -> String {
    let mut first = seen.first_token.clone();
    first.sort_unstable();
    let at =
        |share: f64| first.get(((first.len() as f64 * share) as usize).min(first.len().saturating_sub(1)));
    let ms =
        |time: Option<&Duration>| time.map_or("–".into(), |t| format!("{:.0} ms", t.as_secs_f64() * 1e3));
    let mb = |bytes: Option<&u64>| bytes.map_or("–".into(), |b| format!("{:.0} MB", *b as f64 / 1e6));
    let minutes = took.as_secs_f64() / 60.0;
    let rows = [
        (format!("clients, for {minutes:.1} minutes"), CLIENTS.to_string()),
        ("answers".into(), seen.first_token.len().to_string()),
        ("of which failed".into(), seen.failures.len().to_string()),
        ("tokens/s together".into(), format!("{:.1}", seen.tokens as f64 / took.as_secs_f64())),
        ("first token, median".into(), ms(at(0.5))),
        ("first token, 95 of 100".into(), ms(at(0.95))),
        ("first token, worst".into(), ms(first.last())),
        ("memory at the beginning".into(), mb(memory.first())),
        ("memory half way".into(), mb(memory.get(memory.len() / 2))),
        ("memory at the end".into(), mb(memory.last())),
        ("memory at most".into(), mb(memory.iter().max())),
    ];
    let rows: Vec<String> = rows.iter().map(|(name, value)| format!("| {name} | {value} |")).collect();
    format!("| soak |  |\n| --- | --- |\n{}", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_sorted_times_and_name_what_failed() {
        let first_token = (1..=100).rev().map(Duration::from_millis).collect();
        let seen = Seen { first_token, tokens: 600, failures: vec!["x".into()] };
        let text = markdown(&seen, &[1_000_000, 3_000_000, 2_000_000], Duration::from_secs(60));
        for row in
            ["| of which failed | 1 |", "| tokens/s together | 10.0 |", "| first token, median | 51 ms |"]
        {
            assert!(text.contains(row), "{text}");
        }
        assert!(
            text.contains("| first token, worst | 100 ms |") && text.contains("| memory at most | 3 MB |")
        );
        assert!(markdown(&Seen::default(), &[], Duration::from_secs(1)).contains("| memory at most | – |"));
    }
}
