//! `perch prune`: removes what no model needs, after saying what that is.

use anyhow::Result;
use clap::Args;
use perch_protocol::CleanupRequest;
use perch_server::{Config, Lifetime, LocalLibrary};

use crate::args::LibraryArgs;
use crate::rm::{confirm, print_failures, print_items};
use crate::text;

#[derive(Debug, Args)]
#[command(after_help = "\
Looks for blobs that nothing refers to, downloads and imports that were never finished, links that lead
nowhere, and revisions in the Hugging Face cache that no branch or tag names. What a program holds stays.")]
pub(crate) struct Prune {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Leave unfinished downloads alone that were written to within this time [default: 1d]
    #[arg(long, value_name = "TIME")]
    older_than: Option<String>,
    /// Print JSON; removes nothing without --yes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

pub(crate) fn run(args: &Prune, config: &Config) -> Result<()> {
    let library = LocalLibrary::new(config);
    let mut request = CleanupRequest::default();
    if let Some(text) = &args.older_than {
        let time: Lifetime = text.parse().map_err(anyhow::Error::msg)?;
        request.older_than_s = time.0.map_or(u64::MAX, |time| time.as_secs());
    }
    if args.json {
        let report = library.cleanup(&CleanupRequest { dry_run: !args.yes, ..request })?;
        println!("{}", serde_json::to_string_pretty(&report)?);
        return print_failures(&report.items);
    }
    let plan = library.cleanup(&request)?;
    print_items(&plan.items);
    for kept in &plan.kept {
        println!("stays    {} ({})", kept.path, kept.reason);
    }
    if plan.items.is_empty() {
        println!("There is nothing to remove.");
        return Ok(());
    }
    if !args.yes && !confirm(&format!("Remove all of it and free {}?", text::bytes(plan.freed_bytes)))? {
        return Ok(());
    }
    let done = library.cleanup(&CleanupRequest { dry_run: false, ..request })?;
    print_failures(&done.items)?;
    println!("{} are free again.", text::bytes(done.freed_bytes));
    Ok(())
}
