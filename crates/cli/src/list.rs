//! `perch list`: the models on this machine.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use perch_protocol::{LocalModel, LocalModelList, ModelFormat};
use perch_server::{BuiltIn, Config, LocalLibrary, Running};
use serde_json::{Value, json};

use crate::args::List;
use crate::{models, text};

pub(crate) fn run(args: &List, config: &Config) -> Result<()> {
    let LocalModelList { models, incomplete } = LocalLibrary::new(config).list(&|_| Running::default());
    let built_in = perch_backends::built_in();
    let built_in = models::built_in(Some(built_in.id), &models::library(config), config);
    if args.json {
        let mut all = serde_json::to_value(&models)?;
        if let (Value::Array(all), Some(model)) = (&mut all, &built_in) {
            all.push(as_json(model));
        }
        println!("{}", serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    for model in &incomplete {
        eprintln!("{} lacks files ({}); download it again", model.id, model.missing.join(", "));
    }
    if models.is_empty() {
        eprintln!("There are no models on this machine yet.");
        eprintln!("Put a .gguf file or a folder with config.json and safetensors into");
        eprintln!("  {}", config.data_dir.join("models").display());
        eprintln!(
            "or name a folder with --models-dir. Models in the Hugging Face cache are found by themselves; \
             `perch import` takes over those of LM Studio and Ollama."
        );
    }
    let rows: Vec<[String; 6]> = models.iter().map(row).chain(built_in.as_ref().map(built_in_row)).collect();
    if !rows.is_empty() {
        println!("{}", text::table(["MODEL", "TYPE", "SIZE", "CONTEXT", "FITS", "MODIFIED"], &rows));
    }
    Ok(())
}

fn built_in_row(model: &BuiltIn) -> [String; 6] {
    let size = text::bytes(model.gguf.len() as u64);
    let [kind, fits] = ["Q8_0", "yes"].map(str::to_string);
    [model.id.to_string(), kind, size, String::new(), fits, model.description.to_string()]
}

/// The least of what the others say, with a null for the file that is not there.
fn as_json(model: &BuiltIn) -> Value {
    json!({
        "id": model.id,
        "format": "gguf",
        "quantization": "Q8_0",
        "size_bytes": model.gguf.len(),
        "path": null,
        "store": "built_in",
        "description": model.description,
    })
}

fn row(model: &LocalModel) -> [String; 6] {
    let written = model.modified_at.map(|at| UNIX_EPOCH + Duration::from_millis(at));
    [
        model.id.clone(),
        kind(model),
        text::bytes(model.size_bytes),
        model.context_length.map(|tokens| tokens.to_string()).unwrap_or_default(),
        fits(model).to_owned(),
        text::ago(written),
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
