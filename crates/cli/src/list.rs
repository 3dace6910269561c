//! `perch list`: the models on this machine.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use perch_protocol::{LocalModel, LocalModelList, ModelFormat, Store};
use perch_server::{Config, Running};

use crate::args::List;
use crate::{models, text};

pub(crate) fn run(args: &List, config: &Config) -> Result<()> {
    let LocalModelList { models, incomplete } = models::local(config).list(&|_| Running::default());
    if args.json {
        println!("{}", serde_json::to_string_pretty(&models)?);
        return Ok(());
    }
    for model in &incomplete {
        eprintln!("{} lacks files ({}); download it again", model.id, model.missing.join(", "));
    }
    if models.iter().all(|model| model.store == Store::BuiltIn) {
        eprintln!("There are no models on this machine yet.");
        eprintln!("Put a .gguf file or a folder with config.json and safetensors into");
        eprintln!("  {}", config.data_dir.join("models").display());
        eprintln!(
            "or name a folder with --models-dir. Models in the Hugging Face cache are found by themselves; \
             `perch import` takes over those of LM Studio and Ollama."
        );
    }
    let rows: Vec<[String; 6]> = models.iter().map(row).collect();
    if !rows.is_empty() {
        println!("{}", text::table(["MODEL", "TYPE", "SIZE", "CONTEXT", "FITS", "MODIFIED"], &rows));
    }
    Ok(())
}

fn row(model: &LocalModel) -> [String; 6] {
    let written = model.modified_at.map(|at| UNIX_EPOCH + Duration::from_millis(at));
    [
        model.id.clone(),
        kind(model),
        text::bytes(model.size_bytes),
        model.context_length.map(|tokens| tokens.to_string()).unwrap_or_default(),
        fits(model).to_owned(),
        model.description.clone().unwrap_or_else(|| text::ago(written)),
    ]
}

/// Its quantisation, or else its format.
pub(crate) fn kind(model: &LocalModel) -> String {
    let format = match model.format {
        ModelFormat::Gguf => "gguf",
        ModelFormat::Safetensors => "safetensors",
        ModelFormat::Mlx => "mlx",
    };
    model.quantization.clone().unwrap_or_else(|| format.to_owned())
}

fn fits(model: &LocalModel) -> &'static str {
    match (&model.problem, &model.memory) {
        (Some(_), _) => "cannot run",
        (None, Some(memory)) if memory.fits => "yes",
        (None, Some(_)) => "no",
        (None, None) => "",
    }
}
