//! `perch show`: what is known about one model.

use anyhow::Result;
use clap::Args;
use perch_protocol::{LocalModelDetails, Verification};
use perch_server::{Config, Running};

use crate::args::LibraryArgs;
use crate::list::kind;
use crate::progress::Progress;
use crate::{models, text};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch show Qwen/Qwen3-0.6B
  perch show llama3.2-3b --verify          Compare its bytes with the checksums that its store keeps")]
pub(crate) struct Show {
    /// A model's id
    #[arg(value_name = "MODEL")]
    model: String,
    /// Read the whole model and compare it with its publisher's checksums, where its store keeps them
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

pub(crate) fn run(args: &Show, config: &Config) -> Result<()> {
    let library = models::local(config);
    if args.verify {
        let _progress = Progress::start(format!("Reading {}", args.model));
        library.verify(&args.model)?;
    }
    let details = library.details(&args.model, Running::default())?;
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&details)?),
        false => print(&details),
    }
    Ok(())
}

fn print(details: &LocalModelDetails) {
    let model = &details.model;
    let line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            println!("{name:<14}{}", text::printable(&value));
        }
    };
    println!("{}", model.id);
    line("also", Some(model.names.join(", ")));
    line("what", model.description.clone());
    line("architecture", model.architecture.clone());
    line("parameters", model.parameters.map(count));
    line("weights", Some(format!("{}, {}", kind(model), text::bytes(model.size_bytes))));
    line("context", model.context_length.map(|tokens| format!("{tokens} tokens")));
    line("template", Some(if model.chat_template { "yes" } else { "no: completions only" }.to_owned()));
    line("licence", model.license.clone());
    line("lies in", Some(model.path.clone()));
    line("a link to", model.link_target.clone());
    line("checked", Some(checked(model.verification).to_owned()));
    line("problem", model.problem.as_ref().map(|problem| problem.message.clone()));

    if !details.tensors.is_empty() {
        let row = |types: &perch_protocol::TensorTypes| {
            [types.kind.clone(), types.count.to_string(), count(types.parameters), text::bytes(types.bytes)]
        };
        let rows: Vec<[String; 4]> = details.tensors.iter().map(row).collect();
        println!("\n{}", text::table(["TYPE", "TENSORS", "WEIGHTS", "SIZE"], &rows));
    }
    if !details.memory_at.is_empty() {
        let row = |need: &perch_protocol::LocalMemory| {
            let fits = if need.fits { "yes" } else { "no" };
            [
                need.context.to_string(),
                text::bytes(need.kv_bytes),
                text::bytes(need.total_bytes),
                fits.to_owned(),
            ]
        };
        let rows: Vec<[String; 4]> = details.memory_at.iter().map(row).collect();
        println!("\n{}", text::table(["CONTEXT", "KV CACHE", "MEMORY", "FITS NOW"], &rows));
    }
    if !details.metadata.is_empty() {
        println!();
        for (key, value) in &details.metadata {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            println!("{}", text::printable(&format!("{key} = {}", value.replace('\n', " "))));
        }
    }
}

fn checked(verification: Verification) -> &'static str {
    match verification {
        Verification::Unverified => "not compared with the publisher's checksums",
        Verification::Verified => "its bytes are the publisher's",
        Verification::Damaged => "its bytes are NOT the publisher's: download it again",
    }
}

/// `596 M`, `30.5 B`: as people count weights.
fn count(number: u64) -> String {
    let units = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    let value = number as f64;
    match units.into_iter().find(|&(size, _)| value >= size) {
        Some((size, unit)) if value / size < 100.0 => format!("{:.1} {unit}", value / size),
        Some((size, unit)) => format!("{:.0} {unit}", value / size),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_counted_as_people_say_them() {
        assert_eq!(
            [260, 260_032, 596_049_920, 30_532_122_624].map(count),
            ["260", "260 K", "596 M", "30.5 B"]
        );
    }
}
