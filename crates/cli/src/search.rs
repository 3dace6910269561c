//! `perch search`: models on the Hugging Face hub, and which of them suit this machine.

use anyhow::Result;
use clap::{Args, ValueEnum};
use perch_hub::remote::{Hub, HubSettings};
use perch_protocol::{Fit, HubFormat, HubModel, HubSearchQuery, HubSort};
use perch_server::{Advisor, Config};

use crate::args::LibraryArgs;
use crate::{models, text};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch search qwen3
  perch search llama --format gguf --sort downloads
  perch search --author mlx-community --json

SIZE is what `perch pull` would download, of GGUF about that of Q4_K_M. FITS says whether this machine has
the memory: yes, tight (if others make room), or no. Set HF_TOKEN to see your private models.")]
pub(crate) struct Search {
    /// Words to find in names
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    /// Only of this user or organisation
    #[arg(long, value_name = "NAME")]
    author: Option<String>,
    /// Only for this task, such as text-generation
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Only models of this format
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Order, the most first
    #[arg(long, value_name = "ORDER", default_value = "downloads")]
    sort: Order,
    /// How many, 1 to 100
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Gguf,
    Safetensors,
    Mlx,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Trending,
    Downloads,
    Likes,
    Updated,
    Created,
}

pub(crate) async fn run(args: &Search, config: &Config) -> Result<()> {
    let words = args.query.join(" ");
    let query = HubSearchQuery {
        query: Some(words).filter(|words| !words.is_empty()),
        author: args.author.clone(),
        task: args.task.clone(),
        format: args.format.map(|format| match format {
            Format::Gguf => HubFormat::Gguf,
            Format::Safetensors => HubFormat::Safetensors,
            Format::Mlx => HubFormat::Mlx,
        }),
        sort: Some(match args.sort {
            Order::Trending => HubSort::Trending,
            Order::Downloads => HubSort::Downloads,
            Order::Likes => HubSort::Likes,
            Order::Updated => HubSort::Updated,
            Order::Created => HubSort::Created,
        }),
        limit: Some(args.limit),
        cursor: None,
    };
    let advisor = Advisor::new(Hub::new(HubSettings::from_env()?), models::library(config));
    let found = advisor.search(&query).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    if found.models.is_empty() {
        eprintln!("Nothing was found. Try fewer words.");
        return Ok(());
    }
    let rows: Vec<[String; 5]> = found.models.iter().map(row).collect();
    println!("{}", text::table(["MODEL", "DOWNLOADS", "SIZE", "FITS", "NOTE"], &rows));
    Ok(())
}

fn row(model: &HubModel) -> [String; 5] {
    let runs = model.support.supported != Some(false);
    let fits = match model.fit {
        _ if !runs => "no",
        Some(Fit::Fits) => "yes",
        Some(Fit::Tight) => "tight",
        Some(Fit::TooLarge) => "no",
        None => "?",
    };
    let unsupported =
        || format!("{} does not run yet", model.support.architecture.as_deref().unwrap_or_default());
    let notes = [
        model.downloaded.then(|| "downloaded".to_string()),
        model.gated.then(|| "gated".to_string()),
        (!runs).then(unsupported),
    ];
    [
        model.id.clone(),
        count(model.downloads),
        model.size_bytes.map_or_else(|| "?".to_string(), text::bytes),
        fits.to_string(),
        text::printable(&notes.into_iter().flatten().collect::<Vec<_>>().join(", ")),
    ]
}

/// A count in the unit that leaves the fewest digits: `1.2M`.
fn count(number: u64) -> String {
    let units = [(1e9, "B"), (1e6, "M"), (1e3, "k")];
    let found = units.into_iter().find(|(size, _)| number as f64 >= *size);
    match found {
        Some((size, unit)) if number as f64 / size < 10.0 => format!("{:.1}{unit}", number as f64 / size),
        Some((size, unit)) => format!("{:.0}{unit}", number as f64 / size),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_short() {
        assert_eq!([0, 999, 1_234, 56_789, 7_200_000].map(count), ["0", "999", "1.2k", "57k", "7.2M"]);
    }
}
