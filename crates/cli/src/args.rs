//! The command line: what `perch` understands, and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use perch_model::Quantize;

use crate::chat::Chat;
use crate::service::Service;
use perch_server::ByteSize;

/// Runs open language models on this machine and serves them to any client that speaks OpenAI's API.
#[derive(Debug, Parser)]
#[command(name = "perch", version, max_term_width = 100, propagate_version = false)]
#[command(after_help = "\
Examples:
  perch serve --models-dir ~/models        Serve every model in a folder on http://127.0.0.1:8080
  perch run Qwen/Qwen3-0.6B \"Why is the sky blue?\"
  perch pull unsloth/Qwen3-0.6B-GGUF       Download a model
  perch list                               Show the models on this machine

Settings are read from config.toml in the data folder, then from PERCH_* variables, then from flags.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Perch's own folder: config.toml, models.toml, models
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options", display_order = 900)]
    pub(crate) data_dir: Option<PathBuf>,
    /// How to write logs, which go to standard error
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Global options", display_order = 901)]
    pub(crate) log_format: Option<LogFormat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server and answer until it is stopped
    Serve(Serve),
    /// Answer one prompt and exit
    Run(Run),
    /// List the models on this machine
    #[command(visible_alias = "ls")]
    List(List),
    /// Show what is known about a model
    Show(crate::show::Show),
    /// Delete a model from this machine
    Rm(crate::rm::Rm),
    /// Take over models from a folder, LM Studio, Ollama or the Hugging Face cache
    Import(crate::import::Import),
    /// Show what models take on the disks
    Du(crate::du::Du),
    /// Remove what no model needs
    Prune(crate::prune::Prune),
    /// Write a smaller GGUF file of a model
    Quantize(crate::quantize::Quantize),
    /// Search the Hugging Face hub for models
    Search(crate::search::Search),
    /// Download a model from the Hugging Face hub
    Pull(crate::pull::Pull),
    /// Show what a running server is doing
    Ps(Ps),
    /// Show how much was asked of which model, by day
    Usage(crate::usage::Usage),
    /// Load a model into a running server
    Load(Load),
    /// Unload a model from a running server
    Unload(Unload),
    /// Chat in the terminal
    Chat(Chat),
    /// Run the server in the background, kept by the system
    Service(Service),
    /// Show what this machine can run models on
    Devices(Devices),
    /// Measure how fast a model runs here
    Bench(Bench),
    /// Print a script that completes commands in a shell
    Completions {
        /// For which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch serve                              Serve every model that is found
  perch serve --models-dir ~/models --model Qwen3-0.6B-Q4_K_M
  perch serve --model ./model.gguf --port 0
  perch serve --host 0.0.0.0 --api-key \"$(openssl rand -hex 16)\"

The first line on standard output is `Perch is listening on http://HOST:PORT`.
Ctrl-C lets running answers finish for up to 5 seconds; a second Ctrl-C ends at once.")]
pub(crate) struct Serve {
    /// Address to listen on; anything but this machine itself needs an API key [default: 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// Port to listen on; 0 picks a free one [default: 8080]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// API key that clients must send
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// Models in memory at once [default: 2]
    #[arg(long, value_name = "N")]
    pub(crate) max_models: Option<usize>,
    /// Memory that all models together may take, such as 16GiB [default: what the machine has]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_limit: Option<ByteSize>,
    /// Count requests by day and model, on this machine alone; `perch usage` shows the counts
    #[arg(long)]
    pub(crate) usage: bool,
    /// Model to load now, and to use where a request names none: an id, a file or a folder
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Args)]
#[command(override_usage = "perch run [OPTIONS] [MODEL] PROMPT")]
#[command(after_help = "\
Examples:
  perch run \"Tell me a story\"              Use the default model
  perch run Qwen/Qwen3-0.6B \"Tell me a story\"
  perch run ./model.gguf --max-tokens 50 \"Tell me a story\"
  cat letter.txt | perch run \"Put this into simple words\"

With one argument, it is the prompt, and the default model answers: the one that is configured or
chosen, or else the only or the newest one. Text that is piped in is put after the prompt.")]
pub(crate) struct Run {
    // Not a doc comment: rustdoc would take the brackets for a link.
    #[arg(value_name = "MODEL|PROMPT", num_args = 0..=2, help = "A model, if not the default one, and the prompt")]
    pub(crate) words: Vec<String>,
    /// Instructions that stand before the prompt
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Most tokens to generate
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
    /// 0 always takes the likeliest token
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Same seed, same answer
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch load Qwen/Qwen3-0.6B
  perch load Qwen/Qwen3-0.6B --keep-alive 2h
  perch load Qwen/Qwen3-0.6B --pin           Keep it in memory, also after a restart of the server

Requests load models by themselves; this only spares the first one the wait.")]
pub(crate) struct Load {
    /// Model to load
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// How long it stays in memory unused: 30s, 15m, 2h, never [default: as configured]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) keep_alive: Option<String>,
    /// Keep it in memory whatever else is asked for
    #[arg(long)]
    pub(crate) pin: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch unload Qwen/Qwen3-0.6B
  perch unload Qwen/Qwen3-0.6B --wait        Let it finish what it is answering
  perch unload Qwen/Qwen3-0.6B --unpin

A model that is answering is not unloaded unless --wait or --force says so.")]
pub(crate) struct Unload {
    /// Model to unload
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// If it is in use, wait until it is not
    #[arg(long, conflicts_with = "force")]
    pub(crate) wait: bool,
    /// If it is in use, end what it is answering with an error
    #[arg(long)]
    pub(crate) force: bool,
    /// Take its pin away as well
    #[arg(long)]
    pub(crate) unpin: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Which running server a command speaks to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// Address of the server [default: as configured]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// API key of the server [default: as configured]
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  perch bench Qwen/Qwen3-0.6B
  perch bench ./model.gguf --depths 0,1024,4096 --json
  perch bench --random qwen3-0.6b:q4_k_m   Needs no model: the weights are random, the sizes real

Shapes: tiny, small, qwen3-0.6b, llama-3.2-1b. Types: f32, f16, bf16, q8_0, q4_0, q4_k_m.
The figures are the engine's own, without HTTP and text.")]
pub(crate) struct Bench {
    /// Model to measure: an id, a file or a folder [default: the default model]
    #[arg(value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// Make a model with random weights and measure that: SHAPE:TYPE
    #[arg(long, value_name = "SHAPE:TYPE", conflicts_with = "model")]
    pub(crate) random: Option<crate::bench::Recipe>,
    /// Write the random model to this file and do not measure it
    #[arg(long, value_name = "FILE", requires = "random")]
    pub(crate) write: Option<PathBuf>,
    /// Tokens in the prompt whose prefill is timed
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) prompt: usize,
    /// Tokens that are in the context when decoding is timed
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "128,1024")]
    pub(crate) depths: Vec<usize>,
    /// Tokens of the prefix whose reuse is timed; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) prefix: usize,
    /// Streams at once when throughput is timed
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,4,8,16")]
    pub(crate) streams: Vec<usize>,
    /// Tokens generated for each figure
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) tokens: usize,
    /// Times each figure is taken; the median counts
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) repeat: usize,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) library: LibraryArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// Where models are looked for.
#[derive(Debug, Clone, Args)]
pub(crate) struct LibraryArgs {
    /// Folder with models; may be given more than once
    #[arg(long = "models-dir", value_name = "DIR")]
    pub(crate) models_dirs: Vec<PathBuf>,
}

/// How models are loaded.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// Round float weights to q8_0, q6_k, q4_k or q4_0 while loading
    #[arg(long, value_name = "TYPE")]
    pub(crate) quantize: Option<Quantize>,
    /// Longest context in tokens, where the model's own is longer
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Threads that compute [default: one for each core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<std::num::NonZeroUsize>,
    /// What runs models: auto, cpu, metal or mlx; see `perch devices` [default: auto]
    #[arg(long, value_name = "NAME")]
    pub(crate) backend: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_may_stand_before_and_after_the_command() {
        for words in [["perch", "--data-dir", "/d", "list"], ["perch", "list", "--data-dir", "/d"]] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert_eq!(cli.global.data_dir, Some("/d".into()));
        }
    }

    #[test]
    fn an_unknown_quantisation_names_the_known_ones() {
        let error = Cli::try_parse_from(["perch", "serve", "--quantize", "q3"]).unwrap_err().to_string();
        assert!(error.contains("q8_0") && error.contains("q4_k"), "{error}");
    }

    #[test]
    fn every_command_has_a_line_of_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
