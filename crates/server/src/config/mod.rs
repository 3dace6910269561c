//! `Config`: everything a server can be told, from `config.toml`, the environment and the flags.
//!
//! Each source is a [`Layer`]; later ones win: defaults, `config.toml` and `models.toml` in the data directory,
//! `PERCH_*`, flags. Unknown keys and variables are errors that name them. Relative paths in files are relative to the
//! data directory.

mod chat;
mod check;
pub(crate) mod env;
mod error;
pub(crate) mod file;
mod layer;
mod model;
mod performance;
mod said;
pub(crate) mod usage;
mod values;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use perch_model::Quantize;

pub use chat::{ChatConfig, ChatLayer};
pub use error::ConfigError;
pub use layer::Layer;
pub use model::{ModelConfig, Provider, SamplingDefaults};
pub use performance::Performance;
pub use said::Overrides;
pub use usage::{UsageConfig, UsageLayer};
pub use values::{ByteSize, Lifetime};

use crate::security::KeyConfig;

/// Everything a server can be told, with defaults filled in and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Perch's own folder.
    pub data_dir: PathBuf,
    /// The address to listen on.
    pub host: String,
    /// The port; 0 picks a free one.
    pub port: u16,
    /// Folders with models.
    pub models_dirs: Vec<PathBuf>,
    /// The model that answers requests which name none.
    pub default_model: Option<String>,
    /// Whether the built-in guide is there.
    pub builtin: bool,
    /// Per-model settings.
    pub models: Vec<ModelConfig>,
    /// API keys; none means that none is needed.
    pub keys: Vec<KeyConfig>,
    /// Further names by which clients may call this server.
    pub allowed_hosts: Vec<String>,
    /// Further origins that may call this server.
    pub allowed_origins: Vec<String>,
    /// Limits of HTTP.
    pub http: HttpConfig,
    /// Limits of the model pool.
    pub pool: PoolConfig,
    /// Files that are downloaded at once.
    pub max_downloads: usize,
    /// Bytes a second that all downloads together may take; `None` does not limit.
    pub download_limit: Option<u64>,
    /// How conversations are kept and shown to models.
    pub chat: ChatConfig,
    /// Whether requests are counted.
    pub usage: UsageConfig,
    /// How much of the machine the server may take.
    pub performance: Performance,
    /// How many threads compute, if said; see [`Config::compute_threads`].
    pub threads: Option<NonZeroUsize>,
    /// What to log, if said.
    pub log: Option<String>,
    /// How to log, if said.
    pub log_format: Option<String>,
    /// What the environment and the flags said.
    pub overrides: Overrides,
}

/// Limits of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Largest request body in bytes.
    pub max_body_bytes: u64,
    /// Connections at once; further ones wait in the system's backlog.
    pub max_connections: usize,
    /// Time for a client to send its headers, and as much again for its body to go on.
    pub header_timeout: Duration,
    /// Time in which a client must take something of what is sent to it.
    pub write_timeout: Duration,
    /// Time between comments that keep a silent stream alive.
    pub keep_alive: Duration,
}

/// Limits of the model pool and of the engines in it.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Models in memory at once.
    pub max_models: usize,
    /// Unload a model that was not used for so long; `None` keeps it.
    pub idle_ttl: Option<Duration>,
    /// How long a request waits for its model.
    pub load_timeout: Duration,
    /// Longest sequence in tokens.
    pub context: Option<usize>,
    /// Round float weights to this on load.
    pub quantize: Option<Quantize>,
    /// Which backend runs models.
    pub backend: Option<String>,
    /// Bytes that all models together may take; `None` leaves it to the machine.
    pub memory_limit: Option<u64>,
    /// Bytes of KV for each model; `None` takes a share of the machine's memory.
    pub kv_budget: Option<u64>,
    /// Bytes of KV for prefixes; `None` takes half of the budget.
    pub prefix_cache: Option<u64>,
    /// Requests that may wait for each model.
    pub queue_limit: usize,
    /// Sequences that each model runs at once.
    pub max_sequences: usize,
    /// Tokens of one step of an engine.
    pub max_batch_tokens: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_connections: 1024,
            header_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(10),
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        let engine = perch_engine::EngineConfig::default();
        Self {
            max_models: 2,
            idle_ttl: Some(Duration::from_secs(15 * 60)),
            load_timeout: Duration::from_secs(300),
            context: None,
            quantize: None,
            backend: None,
            memory_limit: None,
            kv_budget: None,
            prefix_cache: None,
            queue_limit: engine.queue_limit,
            max_sequences: engine.max_sequences,
            max_batch_tokens: engine.max_batch_tokens,
        }
    }
}

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The data directory, if a flag says.
    pub data_dir: Option<PathBuf>,
    /// The environment: `std::env::vars().collect()`.
    pub env: Vec<(String, String)>,
    /// What the flags say.
    pub flags: Layer,
}

impl Config {
    /// A server on `127.0.0.1:8080` with everything at its default.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            host: "127.0.0.1".to_owned(),
            port: 8080,
            models_dirs: Vec::new(),
            default_model: None,
            builtin: true,
            models: Vec::new(),
            keys: Vec::new(),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            http: HttpConfig::default(),
            pool: PoolConfig::default(),
            max_downloads: 3,
            download_limit: None,
            chat: ChatConfig::default(),
            usage: UsageConfig::default(),
            performance: Performance::default(),
            threads: None,
            log: None,
            log_format: None,
            overrides: Overrides::default(),
        }
    }

    /// Reads all sources, lays them over one another and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`], naming the key, variable or file.
    pub fn load(sources: Sources) -> Result<Self, ConfigError> {
        let var = |name: &str| {
            let found = sources.env.iter().find(|(key, value)| key == name && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        let data_dir = sources
            .data_dir
            .clone()
            .or_else(|| var(env::DATA_DIR).map(PathBuf::from))
            .or_else(|| default_data_dir(var))
            .ok_or_else(|| {
                ConfigError::invalid(
                    "data_dir",
                    "there is no home folder; name a data directory with --data-dir",
                )
            })?;
        let files = file::layer(&data_dir)?;
        let overrides = Overrides { env: env::layer(&sources.env)?, flags: sources.flags };
        let config = Self::of(data_dir, files, overrides);
        config.check()?;
        Ok(config)
    }

    /// What the files say, changed by what else was said.
    pub(crate) fn of(data_dir: PathBuf, files: Layer, overrides: Overrides) -> Self {
        let layer = files.overlaid(overrides.env.clone()).overlaid(overrides.flags.clone());
        Self { overrides, ..Self::new(data_dir).with(layer) }
    }

    fn with(self, layer: Layer) -> Self {
        let Self { http, pool, .. } = &self;
        let performance = layer.performance.unwrap_or(self.performance);
        let key = layer.api_key.map(|key| KeyConfig::all_scopes("api_key", key));
        let seconds = |time: Option<Lifetime>, default: Duration| match time {
            Some(Lifetime(Some(time))) => time,
            Some(Lifetime(None)) => Duration::from_secs(u32::MAX.into()),
            None => default,
        };
        let http = HttpConfig {
            max_body_bytes: layer.max_body.map_or(http.max_body_bytes, |size| size.0),
            max_connections: layer.max_connections.unwrap_or(http.max_connections),
            header_timeout: seconds(layer.header_timeout, http.header_timeout),
            ..http.clone()
        };
        let pool = PoolConfig {
            max_models: layer.max_models.unwrap_or(pool.max_models),
            idle_ttl: layer.idle_ttl.map_or(performance.idle_ttl(), |time| time.0),
            load_timeout: seconds(layer.load_timeout, pool.load_timeout),
            context: layer.context,
            quantize: layer.quantize,
            backend: layer.backend,
            memory_limit: layer.memory_limit.map(|size| size.0),
            kv_budget: layer.kv_budget.map(|size| size.0),
            prefix_cache: layer.prefix_cache.map(|size| size.0),
            queue_limit: layer.queue_limit.unwrap_or(pool.queue_limit),
            max_sequences: layer.max_sequences.unwrap_or(pool.max_sequences),
            max_batch_tokens: layer.max_batch_tokens.unwrap_or(pool.max_batch_tokens),
        };
        Self {
            host: layer.host.unwrap_or(self.host),
            port: layer.port.unwrap_or(self.port),
            models_dirs: layer.models_dirs.unwrap_or_default(),
            default_model: layer.model,
            builtin: layer.builtin.unwrap_or(self.builtin),
            models: layer.models.unwrap_or_default(),
            keys: layer.keys.unwrap_or_default().into_iter().chain(key).collect(),
            allowed_hosts: layer.allowed_hosts.unwrap_or_default(),
            allowed_origins: layer.allowed_origins.unwrap_or_default(),
            http,
            pool,
            max_downloads: layer.max_downloads.unwrap_or(self.max_downloads),
            download_limit: layer.download_limit.map(|size| size.0),
            chat: layer.chat.unwrap_or_default().into(),
            usage: layer.usage.unwrap_or_default().into(),
            performance,
            threads: layer.threads,
            log: layer.log,
            log_format: layer.log_format,
            overrides: self.overrides,
            data_dir: self.data_dir,
        }
    }

    /// Checks what can be checked without the network.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], naming the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_models", self.pool.max_models),
            ("max_connections", self.http.max_connections),
            ("queue_limit", self.pool.queue_limit),
            ("max_sequences", self.pool.max_sequences),
            ("max_batch_tokens", self.pool.max_batch_tokens),
            ("context", self.pool.context.unwrap_or(1)),
            ("max_downloads", self.max_downloads),
        ];
        if let Some((key, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err(ConfigError::invalid(key, "must be at least 1"));
        }
        if self.http.max_body_bytes == 0 {
            return Err(ConfigError::invalid("max_body", "must be at least 1 byte"));
        }
        if self.http.header_timeout.is_zero() {
            return Err(ConfigError::invalid("header_timeout", "must be at least 1 s"));
        }
        crate::security::check_lists(&self.allowed_hosts, &self.allowed_origins)?;
        crate::security::check_keys(&self.keys)?;
        self.usage.check()?;
        check::check_models(&self.models, self.pool.max_models)
    }

    /// How many threads compute: as said, or as [`Config::performance`] has it. `None` is one for each core.
    pub fn compute_threads(&self) -> Option<NonZeroUsize> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.or_else(|| self.performance.threads(cores))
    }

    /// Whether any key may do `scope`; without keys, everyone may.
    pub fn needs_key(&self) -> bool {
        !self.keys.is_empty()
    }
}

/// Where Perch keeps its things unless told otherwise: `~/Library/Application Support/Perch` on a Mac, else
/// `$XDG_DATA_HOME/perch`, else `~/.local/share/perch`.
fn default_data_dir<'a>(var: impl Fn(&str) -> Option<&'a str>) -> Option<PathBuf> {
    let home = || var("HOME").map(Path::new);
    if std::env::consts::OS == "macos" {
        return Some(home()?.join("Library/Application Support/Perch"));
    }
    // The XDG specification says to ignore relative paths.
    match var("XDG_DATA_HOME").map(Path::new).filter(|path| path.is_absolute()) {
        Some(data) => Some(data.join("perch")),
        None => Some(home()?.join(".local/share/perch")),
    }
}

#[cfg(test)]
mod tests;
