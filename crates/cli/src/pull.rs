//! `perch pull`: downloads a model into the Hugging Face cache. Needs no server; one that runs finds the model afterwards.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use perch_hub::download::{Download, DownloadConfig, DownloadState, Downloads, Select, Wanted};
use perch_hub::remote::{Hub, HubSettings, Revision};
use perch_server::{ByteSize, Config, preference};

use crate::text;

/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// Time between two lines where there is no terminal.
const PACE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch pull unsloth/Qwen3-0.6B-GGUF           Q4_K_M, or what comes nearest and fits this machine
  perch pull unsloth/Qwen3-0.6B-GGUF:Q8_0      One quantisation
  perch pull Qwen/Qwen3-0.6B                   A checkpoint: weights, tokenizer, config
  perch pull Qwen/Qwen3-0.6B --file '*.json'   Only some files

Ctrl-C keeps what has arrived; the same command goes on from there. Files go to the Hugging Face cache
(HF_HOME), where Hugging Face's own tools find them too. Gated and private models need HF_TOKEN.")]
pub(crate) struct Pull {
    /// author/name, or author/name:QUANTISATION
    #[arg(value_name = "MODEL[:QUANT]")]
    model: String,
    /// Only files that fit this path or pattern; may be given more than once
    #[arg(long = "file", value_name = "PATTERN")]
    files: Vec<String>,
    /// A branch, tag or commit [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
    /// Most bytes a second, such as 10MB [default: as configured]
    #[arg(long, value_name = "SIZE")]
    limit: Option<ByteSize>,
}

pub(crate) async fn run(args: &Pull, config: &Config) -> Result<ExitCode> {
    let wanted = wanted(args)?;
    let config = DownloadConfig {
        max_at_once: config.max_downloads,
        bytes_per_second: args.limit.map(|limit| limit.0).or(config.download_limit),
        state_file: None,
    };
    let downloads = Downloads::open(Hub::new(HubSettings::from_env()?), config);
    let ending = tokio::select! {
        ended = pull(&downloads, &wanted) => Some(ended),
        _ = tokio::signal::ctrl_c() => None,
    };
    downloads.shutdown().await;
    match ending {
        None => {
            eprintln!("Stopped. What has arrived is kept; the same command goes on from there.");
            Ok(ExitCode::from(INTERRUPTED))
        }
        Some(Err(error)) => Err(error),
        Some(Ok(done)) => {
            let name = text::printable(&done.model);
            eprintln!("{name} is complete, {}.", text::bytes(done.total_bytes));
            println!("{name}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn wanted(args: &Pull) -> Result<Wanted> {
    let mut wanted = Wanted::parse(&args.model)?;
    if let Some(revision) = &args.revision {
        wanted.revision = Revision::new(revision)?;
    }
    if !args.files.is_empty() {
        if wanted.select != Select::Best {
            bail!("name a quantisation or files with --file, not both");
        }
        wanted.select = Select::Files(args.files.clone());
    }
    Ok(wanted)
}

/// Downloads to the end, and shows how it goes.
async fn pull(downloads: &Downloads, wanted: &Wanted) -> Result<Download> {
    let mut news = downloads.watch();
    let started = downloads.start(wanted, preference()).await?;
    let mut display = Display::new(&started);
    loop {
        let now = downloads.get(&started.id)?;
        display.show(&now);
        match now.state {
            DownloadState::Completed => {
                display.end();
                return Ok(now);
            }
            DownloadState::Failed => {
                display.end();
                match now.error {
                    Some(error) => return Err(error.into()),
                    None => bail!("the download was given up"),
                }
            }
            _ => {}
        }
        // Also looks once a second, for a rate that falls and a wait that goes on.
        let _ = tokio::time::timeout(Duration::from_secs(1), news.changed()).await;
    }
}

/// Bars on a terminal, a line now and then elsewhere.
struct Display {
    bars: Option<Bars>,
    said: Option<Instant>,
    trouble: Option<String>,
}

struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    files: HashMap<String, ProgressBar>,
}

impl Display {
    fn new(download: &Download) -> Self {
        let name = text::printable(&download.model);
        let count = download.files.len();
        let files = if count == 1 { "1 file".to_string() } else { format!("{count} files") };
        eprintln!("Downloading {name}: {files}, {}", text::bytes(download.total_bytes));
        let bars = std::io::stderr().is_terminal().then(|| {
            let all = MultiProgress::new();
            let total =
                all.add(bar(download.total_bytes, "{msg:24} [{bar:30}] {bytes}/{total_bytes} {prefix}"));
            Bars { all, total, files: HashMap::new() }
        });
        Self { bars, said: None, trouble: None }
    }

    fn show(&mut self, download: &Download) {
        let trouble = download.error.as_ref().map(|error| text::printable(&error.to_string()));
        if trouble != self.trouble {
            if let Some(trouble) = &trouble {
                self.say(&format!("{trouble}; trying again"));
            }
            self.trouble = trouble;
        }
        let left =
            download.seconds_left.map(|s| format!(", {} left", text::duration(Duration::from_secs(s))));
        let speed = format!("{}/s{}", text::bytes(download.bytes_per_second), left.unwrap_or_default());
        let Some(bars) = &mut self.bars else {
            if self.said.is_none_or(|said| said.elapsed() >= PACE) && download.bytes_per_second > 0 {
                self.said = Some(Instant::now());
                let (done, total) = (text::bytes(download.done_bytes), text::bytes(download.total_bytes));
                eprintln!("{done} of {total}, {speed}");
            }
            return;
        };
        bars.total.set_length(download.total_bytes);
        bars.total.set_position(download.done_bytes);
        bars.total.set_message(match download.state {
            DownloadState::Queued => "waiting",
            DownloadState::Retrying => "trying again soon",
            _ => "all",
        });
        bars.total.set_prefix(speed);
        for file in &download.files {
            let begun = file.done_bytes > 0 && !file.completed && download.files.len() > 1;
            if !begun {
                if let Some(bar) = bars.files.remove(&file.path) {
                    bar.finish_and_clear();
                }
                continue;
            }
            let bar = bars.files.entry(file.path.clone()).or_insert_with(|| {
                let bar = bars.all.add(bar(file.size_bytes, "{msg:24} [{bar:30}] {bytes}/{total_bytes}"));
                let name = text::printable(file.path.rsplit('/').next().unwrap_or(&file.path));
                bar.set_message(end_of(&name, 24));
                bar
            });
            bar.set_position(file.done_bytes);
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.all.println(line)),
            None => eprintln!("{line}"),
        }
    }

    fn end(&mut self) {
        if let Some(bars) = &mut self.bars {
            bars.files.drain().for_each(|(_, bar)| bar.finish_and_clear());
            bars.total.finish_and_clear();
        }
    }
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style.progress_chars("=> "))
}

/// The last characters of a name: shards differ at the end.
fn end_of(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        name.to_string()
    } else {
        format!("…{}", name.chars().skip(count - most + 1).collect::<String>())
    }
}
