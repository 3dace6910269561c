//! Figures of a running `perch serve`: throughput over HTTP, and what it costs when nobody asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cache;

/// Requests at once.
pub(super) const STREAMS: [usize; 4] = [1, 4, 8, 16];
/// Tokens of each answer.
const TOKENS: usize = 64;
/// How long the idle server is watched.
const IDLE: Duration = Duration::from_secs(10);

/// What the server does and costs.
pub(super) struct ServerFigures {
    /// Tokens a second of all requests together, for each of [`STREAMS`].
    pub(super) throughput: Vec<f64>,
    /// Before any model is loaded.
    pub(super) empty: Idle,
    /// With the model loaded, after the work.
    pub(super) loaded: Idle,
}

/// An idle process.
#[derive(Clone, Copy)]
pub(super) struct Idle {
    pub(super) memory_bytes: Option<u64>,
    /// 100 is one core.
    pub(super) cpu_percent: Option<f64>,
}

/// A `perch serve` of our own, ended when dropped.
pub(super) struct Server {
    child: Child,
    address: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn measure(perch: &Path, model: &Path) -> Result<ServerFigures> {
    let server = start(perch, model.parent().context("a model lies in a folder")?)?;
    let id = model.file_stem().context("a model has a name")?.to_string_lossy().to_string();
    let empty = idle(&server);
    server.complete(&id, "warm up", 2)?;
    let throughput =
        STREAMS.iter().map(|&streams| throughput(&server, &id, streams)).collect::<Result<_>>()?;
    Ok(ServerFigures { throughput, empty, loaded: idle(&server) })
}

/// Starts it with a fresh configuration on a free port.
pub(super) fn start(perch: &Path, models: &Path) -> Result<Server> {
    let mut command = Command::new(perch);
    // The figures are those of a fresh installation.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PERCH_")) {
        command.env_remove(name);
    }
    let data = cache::dir()?.join("bench-data");
    command.args(["serve", "--port", "0", "--models-dir"]).arg(models).arg("--data-dir").arg(data);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("cannot start perch")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no standard output")?).read_line(&mut line)?;
    let address = line.trim().strip_prefix("Perch is listening on http://").map(str::to_string);
    let server = Server { child, address: address.clone().unwrap_or_default() };
    address.with_context(|| format!("the server's first line was {line:?}"))?;
    Ok(server)
}

/// Tokens a second over all requests, the prompts' prefill and HTTP included.
fn throughput(server: &Server, model: &str, streams: usize) -> Result<f64> {
    let start = Instant::now();
    let tokens: usize = thread::scope(|scope| {
        let ask = |n: usize| {
            // No two prompts begin alike, so that none is found in the prefix cache.
            let prompt = format!("{streams}-{n}: {}", "abcdefgh".repeat(3));
            scope.spawn(move || server.complete(model, &prompt, TOKENS))
        };
        let asked: Vec<_> = (0..streams).map(ask).collect();
        asked
            .into_iter()
            .map(|one| one.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
            .sum::<Result<_>>()
    })?;
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

impl Server {
    /// The process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Completes `prompt`; returns how many tokens came.
    pub(super) fn complete(&self, model: &str, prompt: &str, tokens: usize) -> Result<usize> {
        let body = json!({"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0});
        let mut answer = String::new();
        self.ask(&body)?.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        if !head.lines().next().is_some_and(|status| status.contains(" 200 ")) {
            bail!("the server answered {answer}");
        }
        let body: Value = serde_json::from_str(body).context("the answer is not JSON")?;
        let count = body["usage"]["completion_tokens"].as_u64().context("the answer has no usage")?;
        Ok(count as usize)
    }

    /// Completes `prompt` as a stream; returns when its first token came after, and how many came.
    pub(super) fn stream(&self, model: &str, prompt: &str, tokens: usize) -> Result<(Duration, usize)> {
        let options = json!({"include_usage": true});
        let body = json!({"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0,
                          "stream": true, "stream_options": options});
        let asked = Instant::now();
        let (mut first, mut count, mut done) = (None, None, false);
        for line in BufReader::new(self.ask(&body)?).lines() {
            let line = line?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            first.get_or_insert_with(|| asked.elapsed());
            if data == "[DONE]" {
                done = true;
                break;
            }
            let event: Value = serde_json::from_str(data).context("an event is not JSON")?;
            if event.get("error").is_some() {
                bail!("the stream ended with {data}");
            }
            count = event["usage"]["completion_tokens"].as_u64().or(count);
        }
        match (first, count) {
            (Some(first), Some(count)) if done => Ok((first, count as usize)),
            _ => bail!("the stream ended without an answer"),
        }
    }

    /// Sends a completion's body; the answer is what is read.
    fn ask(&self, body: &Value) -> Result<TcpStream> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.address)?;
        write!(
            stream,
            "POST /v1/completions HTTP/1.0\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        )?;
        Ok(stream)
    }
}

/// Watches the server while nobody asks.
fn idle(server: &Server) -> Idle {
    // Let what just ended settle.
    thread::sleep(Duration::from_secs(3));
    let pid = server.child.id();
    let before = cpu_ticks(pid);
    thread::sleep(IDLE);
    let used = before.zip(cpu_ticks(pid)).map(|(before, after)| after - before);
    // Linux counts processor time in hundredths of a second, whatever the kernel's own tick.
    let cpu_percent = used.map(|ticks| ticks as f64 / IDLE.as_secs_f64());
    Idle { memory_bytes: resident(pid), cpu_percent }
}

fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Resident memory by `ps`, which every system has.
pub(super) fn resident(pid: u32) -> Option<u64> {
    let kib = crate::shell::output("ps", &["-o", "rss=", "-p", &pid.to_string()])?;
    kib.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
