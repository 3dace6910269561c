//! `perch usage`: how much was asked of which model, by day; counting switched on and off; counts exported and erased.
//!
//! Asks the running server, if it works with the same data folder, and else the file itself.

mod books;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use perch_protocol::{UsageBy, UsageErased, UsageFormat};
use perch_server::Config;

use crate::args::ServerArgs;
use crate::rm::confirm;
use crate::whole;
use books::Books;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch usage on                           Count from now on
  perch usage                              The last 30 days
  perch usage --days 365 --by model
  perch usage --export usage.parquet       A row for each model on each day; also .csv
  perch usage --erase

Off unless you switch it on. Counts are numbers by day and model: requests, tokens, errors, times. They
hold no prompt, no answer and no address, and stay on this machine.")]
pub(crate) struct Usage {
    /// Switch counting on or off
    #[arg(value_name = "on|off", hide_possible_values = true, conflicts_with_all = ["export", "erase"])]
    switch: Option<Switch>,
    /// Days to show or export, today included [default: 30; all for an export]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3660))]
    days: Option<u32>,
    /// What the rows stand for
    #[arg(long, value_name = "day|model", default_value = "day", hide_possible_values = true)]
    by: By,
    /// Write the counts to this file, whose name ends in .csv or .parquet
    #[arg(long, value_name = "FILE", conflicts_with = "erase")]
    export: Option<PathBuf>,
    /// Erase all counts
    #[arg(long)]
    erase: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Day,
    Model,
}

pub(crate) async fn run(args: &Usage, config: &Config) -> Result<()> {
    let format = args.export.as_deref().map(format_of).transpose()?;
    let books = Books::of(&args.server, config).await?;
    if let Some(switch) = args.switch {
        return turn(&books, switch == Switch::On).await;
    }
    if let (Some(path), Some(format)) = (&args.export, format) {
        whole::write(path, &books.export(format, args.days).await?)?;
        println!("Wrote {}.", path.display());
        return Ok(());
    }
    if args.erase {
        return erase(args, &books).await;
    }
    let by = match args.by {
        By::Day => UsageBy::Day,
        By::Model => UsageBy::Model,
    };
    let report = books.report(args.days.unwrap_or(30), by).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table::shown(&report, by));
    }
    Ok(())
}

fn format_of(path: &std::path::Path) -> Result<UsageFormat> {
    match path.extension().and_then(|end| end.to_str()) {
        Some("csv") => Ok(UsageFormat::Csv),
        Some("parquet") => Ok(UsageFormat::Parquet),
        _ => bail!("{} has to end in .csv or .parquet, which says how it is written", path.display()),
    }
}

async fn turn(books: &Books<'_>, on: bool) -> Result<()> {
    books.switch(on).await?;
    let from = match books {
        Books::Server(_) => "from now on",
        Books::Folder(_) => "from the next start of the server on",
    };
    match on {
        true => println!(
            "Requests are counted by day and model {from}. The counts stay on this machine; `perch usage` shows them, and \
             `perch usage off` ends it."
        ),
        false => println!(
            "Requests are not counted any more {from}. What was counted stays until `perch usage --erase`."
        ),
    }
    Ok(())
}

async fn erase(args: &Usage, books: &Books<'_>) -> Result<()> {
    if !args.yes && !confirm("Erase all that was counted?")? {
        return Ok(());
    }
    let UsageErased { requests, days } = books.erase().await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&UsageErased { requests, days })?);
    } else {
        println!("Erased the counts of {requests} requests on {days} days.");
    }
    Ok(())
}
