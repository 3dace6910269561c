//! The `perch` command: the server without a window, and the small commands around it.
//!
//! Answers go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed with a message that
//! says why, 2 the command line was wrong, 130 stopped by Ctrl-C.

mod args;
mod bench;
mod chat;
mod client;
mod devices;
mod du;
mod import;
mod list;
mod load;
mod logging;
mod models;
mod own;
mod progress;
mod prune;
mod ps;
mod pull;
mod quantize;
mod rm;
mod run;
mod search;
mod serve;
mod service;
mod show;
mod text;
mod usage;
mod whole;

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory, Parser};
use perch_server::{Config, Layer, Sources, UsageLayer};

use args::{Cli, Command, Global, LibraryArgs, LoadArgs, LogFormat};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let code = runtime.block_on(dispatch(cli)).unwrap_or_else(|error| failed(&error));
    // What still blocks in a library (a name look-up, a read) must not hold the process.
    runtime.shutdown_background();
    code
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

async fn dispatch(cli: Cli) -> Result<ExitCode> {
    let global = &cli.global;
    match &cli.command {
        Command::Serve(args) => {
            let config = config(global, serve_layer(args))?;
            let logs = logging::start(&config, "info");
            return serve::run(config, logs).await;
        }
        Command::Run(args) => {
            let config = config(global, layer(Some(&args.library), Some(&args.load)))?;
            logging::start(&config, "error");
            return run::run(args, config).await;
        }
        Command::List(args) => {
            let config = config(global, layer(Some(&args.library), None))?;
            logging::start(&config, "warn");
            list::run(args, &config)?;
        }
        Command::Show(args) => show::run(args, &quiet(global, &args.library)?)?,
        Command::Rm(args) => rm::run(args, &quiet(global, &args.library)?)?,
        Command::Import(args) => import::run(args, &quiet(global, &args.library)?)?,
        Command::Du(args) => du::run(args, &quiet(global, &args.library)?)?,
        Command::Prune(args) => prune::run(args, &quiet(global, &args.library)?)?,
        Command::Quantize(args) => quantize::run(args, &quiet(global, &args.library)?).await?,
        Command::Search(args) => {
            let config = config(global, layer(Some(&args.library), None))?;
            logging::start(&config, "error");
            search::run(args, &config).await?;
        }
        Command::Pull(args) => {
            let config = config(global, Layer::default())?;
            logging::start(&config, "error");
            return pull::run(args, &config).await;
        }
        Command::Ps(args) => ps::run(args, &config(global, Layer::default())?).await?,
        Command::Usage(args) => usage::run(args, &config(global, Layer::default())?).await?,
        Command::Load(args) => load::load(args, &config(global, Layer::default())?).await?,
        Command::Unload(args) => load::unload(args, &config(global, Layer::default())?).await?,
        Command::Chat(args) => {
            let config = config(global, layer(Some(&args.library), Some(&args.limits)))?;
            logging::start(&config, "error");
            return chat::run(args, config).await;
        }
        Command::Devices(args) => {
            let config = config(global, Layer::default())?;
            logging::start(&config, "error");
            devices::run(args, &config)?;
        }
        Command::Service(args) => return service::run(args, &config(global, Layer::default())?).await,
        Command::Bench(args) => {
            let config = config(global, layer(Some(&args.library), Some(&args.load)))?;
            logging::start(&config, "error");
            bench::run(args, &models::library(&config), &config).await?;
        }
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "perch", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The configuration of a command that works with the library alone, with the log started for it.
fn quiet(global: &Global, library: &LibraryArgs) -> Result<Config> {
    let config = config(global, layer(Some(library), None))?;
    logging::start(&config, "warn");
    Ok(config)
}

/// Everything that was said: files, environment, flags.
fn config(global: &Global, flags: Layer) -> Result<Config> {
    let log_format = global.log_format.map(|format| match format {
        LogFormat::Text => "text".to_string(),
        LogFormat::Json => "json".to_string(),
    });
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let sources = Sources {
        data_dir: global.data_dir.clone(),
        env: env.collect(),
        flags: Layer { log_format: log_format.or(flags.log_format.clone()), ..flags },
    };
    Ok(Config::load(sources)?)
}

fn layer(library: Option<&LibraryArgs>, load: Option<&LoadArgs>) -> Layer {
    let dirs = library.map(|library| library.models_dirs.clone()).filter(|dirs| !dirs.is_empty());
    Layer {
        models_dirs: dirs,
        quantize: load.and_then(|load| load.quantize),
        context: load.and_then(|load| load.context),
        threads: load.and_then(|load| load.threads),
        backend: load.and_then(|load| load.backend.clone()),
        ..Layer::default()
    }
}

fn serve_layer(args: &args::Serve) -> Layer {
    Layer {
        host: args.host.clone(),
        port: args.port,
        api_key: args.api_key.clone(),
        max_models: args.max_models,
        memory_limit: args.memory_limit,
        model: args.model.clone(),
        usage: args.usage.then(|| UsageLayer { enabled: Some(true), ..UsageLayer::default() }),
        ..layer(Some(&args.library), Some(&args.load))
    }
}
