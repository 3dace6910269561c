//! `perch bench`: how fast a model runs on this machine, and how much memory it takes.

mod measure;
mod memory;
mod random;
mod recipe;
mod report;

pub(crate) use recipe::Recipe;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use perch_backends::Backends;
use perch_engine::{EngineConfig, EngineHandle};
use perch_hub::{Library, LocalModel};
use perch_model::{Checkpoint, SpecOptions};
use perch_server::{Config, LoadJob, Loader};

use crate::args::Bench as Args;
use crate::progress::Progress;
use measure::Bench;
use memory::MemoryWatch;
use report::{Figures, Memory};

/// Runs the command.
pub(crate) async fn run(args: &Args, library: &Library, config: &Config) -> Result<()> {
    let Some(recipe) = &args.random else {
        let model = crate::models::chosen(args.model.as_deref(), library, config)?;
        return show(args, measure(args, &model, config).await?);
    };
    if let Some(path) = &args.write {
        return make(recipe, path);
    }
    let folder = tempfile::tempdir().context("cannot make a folder for the model")?;
    let path = folder.path().join(format!("{}.gguf", recipe.name()));
    make(recipe, &path)?;
    show(args, measure(args, &library.at_path(&path)?, config).await?)
}

fn make(recipe: &Recipe, path: &Path) -> Result<()> {
    let _progress = Progress::start(format!("Making {}", recipe.name()));
    random::write(recipe, path)
}

fn show(args: &Args, figures: Figures) -> Result<()> {
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&figures)?),
        false => print!("{figures}"),
    }
    Ok(())
}

async fn measure(args: &Args, model: &LocalModel, config: &Config) -> Result<Figures> {
    let memory = MemoryWatch::start();
    let start = Instant::now();
    let (engine, quantization) = {
        let _progress = Progress::start(format!("Loading {}", model.id));
        load(args, model, config).await?
    };
    let load_s = start.elapsed().as_secs_f64();
    let mut bench = Bench::new(engine.clone(), args.tokens, args.repeat);
    let mut figures = Figures {
        version: env!("CARGO_PKG_VERSION"),
        model: model.id.clone(),
        quantization,
        file_bytes: model.size_bytes,
        cpu: cpu_name(),
        threads: perch_backends::threads(args.load.threads),
        load_s,
        prefill: None,
        decode: Vec::new(),
        first_token: None,
        throughput: Vec::new(),
        memory: Memory::default(),
        left_out: Vec::new(),
    };
    take(args, &mut bench, &mut figures, &memory).await?;
    figures.memory.kv_bytes = engine.stats().kv_used_bytes;
    figures.memory.peak_bytes = memory.peak();
    engine.shutdown().await;
    Ok(figures)
}

async fn take(args: &Args, bench: &mut Bench, figures: &mut Figures, memory: &MemoryWatch) -> Result<()> {
    bench.warm_up().await?;
    figures.memory.after_load_bytes = memory.now();
    if fits(bench, figures, "prefill", args.prompt) {
        let _progress = Progress::start("Timing prefill");
        figures.prefill = Some(bench.prefill(args.prompt).await?);
    }
    for &depth in &args.depths {
        if fits(bench, figures, "decode", depth) {
            let _progress = Progress::start(format!("Timing decode after {depth} tokens"));
            figures.decode.push(bench.decode(depth).await?);
        }
    }
    if args.prefix > 0 && fits(bench, figures, "first token", args.prefix + measure::NEW_TOKENS) {
        let _progress = Progress::start("Timing the first token");
        figures.first_token = Some(bench.first_token(args.prefix).await?);
    }
    for &streams in args.streams.iter().filter(|&&streams| streams > 0) {
        let _progress = Progress::start(format!("Timing {streams} at once"));
        figures.throughput.push(bench.throughput(streams).await?);
    }
    Ok(())
}

fn fits(bench: &Bench, figures: &mut Figures, what: &str, prompt: usize) -> bool {
    let fits = bench.fits(prompt);
    if !fits {
        let context = bench.engine.limits().context_length;
        figures.left_out.push(format!("{what}, {prompt} tokens: the context holds {context}"));
    }
    fits
}

/// Loads as the server does, with room for every stream that is timed.
async fn load(args: &Args, model: &LocalModel, config: &Config) -> Result<(EngineHandle, String)> {
    let path = model.path.clone();
    let options = SpecOptions { context: args.load.context.or(config.pool.context) };
    let opened = tokio::task::spawn_blocking(move || {
        let checkpoint = Checkpoint::open(path)?;
        let spec = checkpoint.spec(&options)?;
        Ok::<_, perch_model::ModelError>((checkpoint, spec))
    });
    let (checkpoint, spec) = opened.await??;
    let quantization = match config.pool.quantize {
        Some(to) => format!("{to:?} from {}", checkpoint.quantization()),
        None => checkpoint.quantization(),
    };
    let defaults = EngineConfig::default();
    let most = args.streams.iter().copied().max().unwrap_or(1);
    let mut job = LoadJob {
        id: model.id.clone(),
        checkpoint: Arc::new(checkpoint),
        spec: Arc::new(spec),
        backend: config.pool.backend.clone(),
        quantize: config.pool.quantize,
        engine: EngineConfig {
            max_sequences: defaults.max_sequences.max(most),
            queue_limit: defaults.queue_limit.max(most),
            max_batch_tokens: config.pool.max_batch_tokens,
            kv_budget_bytes: config.pool.kv_budget.unwrap_or(defaults.kv_budget_bytes),
            ..defaults
        },
    };
    let backends = Backends::new(args.load.threads);
    // Room for one prefix only: what earlier figures left in the cache is not what a model takes.
    let prefix =
        args.depths.iter().copied().chain([args.prefix]).max().unwrap_or(0) + 2 * measure::NEW_TOKENS;
    job.engine.prefix_cache_bytes = backends.needs(&job).kv_bytes_per_token * prefix as u64;
    Ok((backends.load(job).await?, quantization))
}

fn cpu_name() -> String {
    let system = sysinfo::System::new_with_specifics(
        sysinfo::RefreshKind::nothing().with_cpu(sysinfo::CpuRefreshKind::nothing()),
    );
    let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_string());
    brand.filter(|brand| !brand.is_empty()).unwrap_or_else(|| std::env::consts::ARCH.to_string())
}
