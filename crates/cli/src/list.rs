//! `perch list`: the models on this machine.

use anyhow::Result;
use perch_hub::{Library, LocalModel};
use perch_server::Config;

use crate::args::List;
use crate::text;

pub(crate) fn run(args: &List, library: &Library, config: &Config) -> Result<()> {
    let models = library.scan();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&models)?);
        return Ok(());
    }
    if models.is_empty() {
        eprintln!("There are no models on this machine yet.");
        eprintln!("Put a .gguf file or a folder with config.json and safetensors into");
        eprintln!("  {}", config.data_dir.join("models").display());
        eprintln!(
            "or name a folder with --models-dir. Models in the Hugging Face cache are found by themselves."
        );
        return Ok(());
    }
    let rows: Vec<[String; 4]> = models.iter().map(row).collect();
    println!("{}", text::table(["MODEL", "TYPE", "SIZE", "MODIFIED"], &rows));
    Ok(())
}

fn row(model: &LocalModel) -> [String; 4] {
    [
        model.id.clone(),
        model.quantization.clone().unwrap_or_else(|| format!("{:?}", model.format).to_lowercase()),
        text::bytes(model.size_bytes),
        text::ago(model.modified),
    ]
}
