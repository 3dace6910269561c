//! `perch rm`: deletes a model from this machine, after saying what goes.

use anyhow::{Result, bail};
use clap::Args;
use perch_protocol::{Removal, RemoveQuery, StorageItem, StorageItemKind};
use perch_server::Config;

use crate::args::LibraryArgs;
use crate::{models, text};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch rm Qwen/Qwen3-0.6B                 Says what goes, and asks
  perch rm llama3.2-3b --yes

Bytes that another model, revision or program needs stay. Of a model that is linked or referenced, only
the link or entry goes unless --files is given.")]
pub(crate) struct Rm {
    /// A model's id
    #[arg(value_name = "MODEL")]
    model: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Remove the bytes of a linked model as well, also from another program's store
    #[arg(long)]
    files: bool,
    /// In the Hugging Face cache: remove older revisions as well
    #[arg(long)]
    all_revisions: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

pub(crate) fn run(args: &Rm, config: &Config) -> Result<()> {
    let library = models::local(config);
    let query =
        RemoveQuery { dry_run: true, force: false, files: args.files, all_revisions: args.all_revisions };
    let plan = library.remove(&args.model, query)?;
    print_items(&plan.items);
    for kept in &plan.kept {
        println!("stays    {} ({})", kept.path, kept.reason);
    }
    if !args.yes && !confirm(&format!("Delete {} and free {}?", plan.id, text::bytes(plan.freed_bytes)))? {
        return Ok(());
    }
    let Removal { id, items, freed_bytes, .. } =
        library.remove(&plan.id, RemoveQuery { dry_run: false, ..query })?;
    print_failures(&items)?;
    println!("Deleted {id}; {} are free again.", text::bytes(freed_bytes));
    Ok(())
}

/// What goes, a line each.
pub(crate) fn print_items(items: &[StorageItem]) {
    for item in items.iter().filter(|item| item.kind != StorageItemKind::Folder) {
        println!("{:<8} {} ({})", text::bytes(item.bytes), item.path, item.reason);
    }
}

/// An error if anything could not be removed.
pub(crate) fn print_failures(items: &[StorageItem]) -> Result<()> {
    let failed: Vec<String> =
        items.iter().filter_map(|item| Some(format!("{}: {}", item.path, item.error.as_ref()?))).collect();
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not everything could be removed:\n  {}", failed.join("\n  "))
}

/// Asks on the terminal. Without one there is nobody to ask.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        bail!("nobody can be asked here; say --yes to go on");
    }
    Ok(dialoguer::Confirm::new().with_prompt(question).default(false).interact()?)
}
