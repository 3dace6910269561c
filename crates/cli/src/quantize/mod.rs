//! `perch quantize`: a smaller GGUF file of a model in floats.
//!
//! Tensors go through one after the other, a few rows at a time, into a file beside the result, which takes its name
//! only once it was opened, compared with the original and loaded.

mod families;
mod folder;
mod plan;
mod verify;
mod vocab;
mod write;

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use perch_model::{Checkpoint, Quantize as Kind};
use perch_server::Config;

use crate::args::LibraryArgs;
use crate::progress::Progress;
use crate::text;
use plan::Plan;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch quantize Qwen/Qwen3-0.6B qwen3-0.6b-q8_0.gguf --type q8_0
  perch quantize ./model-f16.gguf ./model-q4_k.gguf --type q4_k

IN is a GGUF file of any architecture, or a safetensors folder of Llama, Mistral, Mixtral, Qwen2, Qwen3,
Qwen3-MoE, Phi-3 and 4, SmolLM3, Granite 3, Gemma 2 or Gemma 3 (text).
The result has the tokenizer and the chat template with it. Weights that are quantised already, and MLX's,
are refused or stay as they are: rounding twice only loses.")]
pub(crate) struct Quantize {
    /// Model in floats: an id, a file or a folder
    #[arg(value_name = "IN")]
    from: String,
    /// The GGUF file to write
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// What to round to
    #[arg(long = "type", value_name = "TYPE", value_parser = kind)]
    kind: Kind,
    /// Replace OUT if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

fn kind(name: &str) -> Result<Kind, String> {
    match name.to_ascii_lowercase().as_str() {
        "q8_0" | "q4_0" | "q4_k" => name.parse(),
        "q4_k_m" => Ok(Kind::Q4K),
        _ => Err(format!("{name:?} is not a type to round to; q8_0, q4_k and q4_0 are")),
    }
}

pub(crate) async fn run(args: &Quantize, config: &Config) -> Result<()> {
    if args.to.exists() && !args.force {
        bail!("{} is there already; --force replaces it", args.to.display());
    }
    let library = crate::models::library(config);
    let model = crate::models::chosen(Some(&args.from), &library, config)?;
    let checkpoint = Checkpoint::open(&model.path)?;
    let plan = Plan::of(&checkpoint, args.kind)?;
    let folder = args.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Gone again if anything fails, and hidden from every library until then.
    let partial = tempfile::Builder::new().prefix(".quantize-").suffix(".partial").tempfile_in(folder);
    let partial = partial.with_context(|| format!("cannot write into {}", folder.display()))?;
    {
        let _progress = Progress::start(format!("Rounding {}", model.id));
        let mut out = BufWriter::with_capacity(1 << 20, partial.as_file());
        write::write(&checkpoint, &plan, &mut out)?;
        out.flush()?;
        partial.as_file().sync_all()?;
    }
    {
        let _progress = Progress::start("Loading the result");
        verify::compare(&checkpoint, partial.path(), &plan)?;
        verify::load(partial.path(), config).await?;
    }
    partial.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    let written = match args.force {
        true => partial.persist(&args.to),
        false => partial.persist_noclobber(&args.to),
    };
    written.with_context(|| format!("cannot give {} its name", args.to.display()))?;
    let (before, after) = (checkpoint.file_bytes(), fs::metadata(&args.to)?.len());
    println!("{}: {} from {}", args.to.display(), text::bytes(after), text::bytes(before));
    Ok(())
}
