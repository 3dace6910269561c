//! `perch du`: what models take on the disks, each byte counted once.

use anyhow::Result;
use clap::Args;
use perch_protocol::Store;
use perch_server::{Config, LocalLibrary};

use crate::args::LibraryArgs;
use crate::text;

#[derive(Debug, Args)]
pub(crate) struct Du {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

pub(crate) fn run(args: &Du, config: &Config) -> Result<()> {
    let stats = LocalLibrary::new(config).usage();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&stats)?);
        return Ok(());
    }
    let models: Vec<[String; 4]> = stats
        .models
        .iter()
        .map(|model| {
            let freed = text::bytes(model.freed_bytes);
            [model.id.clone(), name(model.store).to_owned(), text::bytes(model.bytes), freed]
        })
        .collect();
    println!("{}", text::table(["MODEL", "IN", "SIZE", "FREED BY RM"], &models));
    let stores: Vec<[String; 5]> = stats
        .stores
        .iter()
        .map(|store| {
            let sizes = [store.bytes, store.reclaimable_bytes, store.free_bytes].map(text::bytes);
            let [bytes, reclaimable, free] = sizes;
            [name(store.store).to_owned(), bytes, reclaimable, free, store.path.clone()]
        })
        .collect();
    println!("\n{}", text::table(["PLACE", "SIZE", "UNNEEDED", "FREE ON DISK", "FOLDER"], &stores));
    println!("\nAll models: {}", text::bytes(stats.total_bytes));
    if stats.shared_bytes > 0 {
        println!("Shared between models: {}", text::bytes(stats.shared_bytes));
    }
    if stats.reclaimable_bytes > 0 {
        println!("`perch prune` would free {}", text::bytes(stats.reclaimable_bytes));
    }
    Ok(())
}

fn name(store: Store) -> &'static str {
    match store {
        Store::Perch => "Perch",
        Store::ModelsDir => "models folder",
        Store::HuggingFace => "Hugging Face",
        Store::LmStudio => "LM Studio",
        Store::Ollama => "Ollama",
        Store::Elsewhere => "elsewhere",
        Store::BuiltIn => "built in",
    }
}
