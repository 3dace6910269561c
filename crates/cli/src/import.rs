//! `perch import`: models that lie elsewhere come into the library, by flags or with a wizard.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use dialoguer::{Confirm, MultiSelect, Select};
use perch_protocol::{ImportMode, ImportReport, ImportRequest, ImportSource, Profile};
use perch_server::{Config, LocalLibrary};

use crate::args::LibraryArgs;
use crate::progress::Progress;
use crate::text;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch import ~/Downloads/model.gguf      Link one model into Perch's folder
  perch import --lm-studio --dry-run       Say what LM Studio has that Perch could take over
  perch import --ollama --model llama3.2:3b --profile balanced
  perch import --interactive               Choose from everything that is found
  perch import --folder ~/models --output models.toml

Nothing is stored twice: a model is linked unless --mode says otherwise. Each is opened before it counts.")]
pub(crate) struct Import {
    /// A GGUF file, a model's folder, or a folder with models
    #[arg(value_name = "PATH", conflicts_with_all = ["folder", "hf_cache", "lm_studio", "ollama"])]
    path: Option<PathBuf>,
    /// A folder with models
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The Hugging Face cache: its models are there already, this writes their settings
    #[arg(long)]
    hf_cache: bool,
    /// LM Studio's models
    #[arg(long)]
    lm_studio: bool,
    /// Ollama's models
    #[arg(long)]
    ollama: bool,
    /// Ask what to import and how
    #[arg(long, short, conflicts_with = "json")]
    interactive: bool,
    /// Only this model of those that are found, by the name that --dry-run shows; may be given more than once
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// What to call it, where it is one
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// How the bytes come into the library
    #[arg(long, value_name = "MODE", default_value = "link")]
    mode: Mode,
    /// Settings to write for each model
    #[arg(long, value_name = "PROFILE")]
    profile: Option<ProfileName>,
    /// Write the settings into this file; models are referenced by their paths
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// A link in Perch's folder
    Link,
    /// An entry in models.toml
    Reference,
    /// A copy in Perch's folder
    Copy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProfileName {
    /// 4,096 tokens of context, float weights in four bits
    Fast,
    /// 16,384 tokens of context, float weights in eight bits
    Balanced,
    /// The model's own context, weights as they are
    Quality,
}

const PROFILES: [(Option<ProfileName>, &str); 4] = [
    (None, "no settings: as the model and the server have it"),
    (Some(ProfileName::Fast), "fast: 4,096 tokens of context, float weights in four bits, short answers"),
    (Some(ProfileName::Balanced), "balanced: 16,384 tokens of context, float weights in eight bits"),
    (Some(ProfileName::Quality), "quality: the model's own context, weights as they are"),
];

pub(crate) fn run(args: &Import, config: &Config) -> Result<()> {
    let library = LocalLibrary::new(config);
    let mut requests = requests(args)?;
    if requests.is_empty() {
        if !args.interactive {
            bail!(
                "say what to import: a path, --folder, --hf-cache, --lm-studio, --ollama, or --interactive"
            );
        }
        requests = everything(args);
    }
    if args.interactive {
        return wizard(&library, requests, args);
    }
    let mut reports = Vec::new();
    for request in &requests {
        reports.push(import(&library, request, args)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else {
        reports.iter().for_each(print);
    }
    let (found, done) = reports.iter().fold((0, 0), |(found, done), report| {
        (found + report.imported.len() + report.skipped.len(), done + report.imported.len())
    });
    if done == 0 && found > 0 {
        bail!("nothing was imported");
    }
    Ok(())
}

/// What the flags ask for.
fn requests(args: &Import) -> Result<Vec<ImportRequest>> {
    let mut sources = Vec::new();
    if let Some(path) = args.path.as_ref().or(args.folder.as_ref()) {
        let whole =
            std::path::absolute(path).with_context(|| format!("{} cannot be used", path.display()))?;
        sources.push((ImportSource::Path, Some(whole.display().to_string())));
    }
    let stores = [
        (args.hf_cache, ImportSource::HuggingFace),
        (args.lm_studio, ImportSource::LmStudio),
        (args.ollama, ImportSource::Ollama),
    ];
    sources.extend(stores.into_iter().filter(|(wanted, _)| *wanted).map(|(_, source)| (source, None)));
    Ok(sources.into_iter().map(|(source, path)| request(args, source, path)).collect())
}

/// Every store that there may be.
fn everything(args: &Import) -> Vec<ImportRequest> {
    let all = [ImportSource::LmStudio, ImportSource::Ollama, ImportSource::HuggingFace];
    all.into_iter().map(|source| request(args, source, None)).collect()
}

fn request(args: &Import, source: ImportSource, path: Option<String>) -> ImportRequest {
    ImportRequest {
        source,
        path,
        models: (!args.models.is_empty()).then(|| args.models.clone()),
        id: args.id.clone(),
        mode: match args.mode {
            _ if args.output.is_some() => ImportMode::Reference,
            Mode::Link => ImportMode::Link,
            Mode::Reference => ImportMode::Reference,
            Mode::Copy => ImportMode::Copy,
        },
        profile: args.profile.map(profile),
        dry_run: args.dry_run,
    }
}

fn profile(name: ProfileName) -> Profile {
    match name {
        ProfileName::Fast => Profile::Fast,
        ProfileName::Balanced => Profile::Balanced,
        ProfileName::Quality => Profile::Quality,
    }
}

fn import(library: &LocalLibrary, request: &ImportRequest, args: &Import) -> Result<ImportReport> {
    let _progress = Progress::start("Opening the models");
    Ok(library.import_to(request, args.output.clone())?)
}

fn print(report: &ImportReport) {
    let done = if report.dry_run { "would import" } else { "imported" };
    for model in &report.imported {
        let how = match model.mode {
            ImportMode::Link => "linked",
            ImportMode::Reference => "by reference",
            ImportMode::Copy => "copied",
        };
        println!("{done} {} as {} ({}, {how})", model.name, model.id, text::bytes(model.size_bytes));
        for note in &model.notes {
            println!("  note: {note}");
        }
    }
    for model in &report.skipped {
        println!("skipped {}: {}", model.name, model.reason);
    }
}

/// Lists what is found, lets the user choose models and a profile, shows what will be done, then does it.
fn wizard(library: &LocalLibrary, requests: Vec<ImportRequest>, args: &Import) -> Result<()> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        bail!("--interactive needs a terminal; use the other flags here");
    }
    let mut found = Vec::new();
    for request in requests {
        // With settings, so that what is in the library already can be chosen as well.
        let look = ImportRequest { dry_run: true, profile: Some(Profile::Fast), ..request.clone() };
        match import(library, &look, args) {
            Ok(report) => {
                report
                    .skipped
                    .iter()
                    .for_each(|model| println!("cannot import {}: {}", model.name, model.reason));
                found.extend(report.imported.into_iter().map(|model| (request.clone(), model)));
            }
            Err(error) => println!("{error:#}"),
        }
    }
    if found.is_empty() {
        bail!("no model was found that could be imported");
    }
    let lines: Vec<String> = found
        .iter()
        .map(|(_, model)| format!("{}  {}  {}", model.name, text::bytes(model.size_bytes), model.from))
        .collect();
    let picked = MultiSelect::new().with_prompt("Which models? (space chooses, enter goes on)").items(&lines);
    let Some(picked) = picked.interact_opt()?.filter(|picked| !picked.is_empty()) else {
        println!("Nothing was chosen.");
        return Ok(());
    };
    let names = PROFILES.map(|(_, summary)| summary);
    let Some(at) = Select::new().with_prompt("Which settings?").items(names).default(0).interact_opt()?
    else {
        return Ok(());
    };
    let chosen: Vec<ImportRequest> = picked
        .iter()
        .map(|&at| &found[at])
        .map(|(request, model)| ImportRequest { models: Some(vec![model.name.clone()]), ..request.clone() })
        .map(|request| ImportRequest { profile: PROFILES[at].0.map(profile), ..request })
        .collect();
    for request in &chosen {
        print(&import(library, &ImportRequest { dry_run: true, ..request.clone() }, args)?);
    }
    if args.dry_run || !Confirm::new().with_prompt("Do it?").default(true).interact()? {
        return Ok(());
    }
    for request in &chosen {
        print(&import(library, request, args)?);
    }
    Ok(())
}
