//! `Layer`: what one source (a file, the environment, the flags) says. Absent keys leave it to the source before.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use perch_model::Quantize;
use serde::{Deserialize, Serialize};

use super::values::{quantize_name, written};
use super::{ByteSize, ChatLayer, Lifetime, ModelConfig, Performance, UsageLayer};
use crate::security::KeyConfig;

/// What one source says. Its fields are the keys of `config.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// The address to listen on: an IP address or a host name.
    pub host: Option<String>,
    /// The port; 0 picks a free one.
    pub port: Option<u16>,
    /// Folders with models, besides the data directory's and the Hugging Face cache.
    pub models_dirs: Option<Vec<PathBuf>>,
    /// The model that answers requests which name none. Also a path.
    pub model: Option<String>,
    /// Whether the built-in guide is there.
    pub builtin: Option<bool>,
    /// Models in memory at once.
    pub max_models: Option<usize>,
    /// How much of the machine the server may take, in one word.
    pub performance: Option<Performance>,
    /// How many threads compute.
    pub threads: Option<NonZeroUsize>,
    /// Unload a model that was not used for so long.
    pub idle_ttl: Option<Lifetime>,
    /// How long a request waits for its model to load.
    pub load_timeout: Option<Lifetime>,
    /// Bytes that all models together may take.
    pub memory_limit: Option<ByteSize>,
    /// Bytes of KV for each model.
    pub kv_budget: Option<ByteSize>,
    /// Bytes of KV, within the budget, for prefixes that may come again.
    pub prefix_cache: Option<ByteSize>,
    /// Longest sequence in tokens.
    pub context: Option<usize>,
    /// Round float weights to this on load.
    #[serde(deserialize_with = "written", serialize_with = "quantize_name")]
    pub quantize: Option<Quantize>,
    /// Which backend runs models, by name.
    pub backend: Option<String>,
    /// Requests that may wait for each model.
    pub queue_limit: Option<usize>,
    /// Sequences that each model runs at once.
    pub max_sequences: Option<usize>,
    /// Tokens of one step of an engine.
    pub max_batch_tokens: Option<usize>,
    /// Further names by which clients may call this server.
    pub allowed_hosts: Option<Vec<String>>,
    /// Further web sites and apps that may call this server, as `scheme://host[:port]`.
    pub allowed_origins: Option<Vec<String>>,
    /// An API key with all scopes.
    #[serde(skip_serializing)]
    pub api_key: Option<String>,
    /// API keys with scopes.
    #[serde(skip_serializing)]
    pub keys: Option<Vec<KeyConfig>>,
    /// Largest request body.
    pub max_body: Option<ByteSize>,
    /// Connections at once.
    pub max_connections: Option<usize>,
    /// Time for a client to send its headers, and as much again for its body.
    pub header_timeout: Option<Lifetime>,
    /// Files that are downloaded at once.
    pub max_downloads: Option<usize>,
    /// Bytes a second that all downloads together may take.
    pub download_limit: Option<ByteSize>,
    /// What to log, as `tracing` writes it: `info`, `perch_server=debug`.
    pub log: Option<String>,
    /// `text` or `json`.
    pub log_format: Option<String>,
    /// How conversations are kept and shown to models.
    pub chat: Option<ChatLayer>,
    /// Whether requests are counted.
    pub usage: Option<UsageLayer>,
    /// Per-model settings.
    #[serde(skip_serializing)]
    pub models: Option<Vec<ModelConfig>>,
}

impl Layer {
    /// `self`, changed by what `later` says. Tables of models and keys add up; all else is replaced.
    pub fn overlaid(self, later: Layer) -> Layer {
        Layer {
            host: later.host.or(self.host),
            port: later.port.or(self.port),
            models_dirs: later.models_dirs.or(self.models_dirs),
            model: later.model.or(self.model),
            builtin: later.builtin.or(self.builtin),
            max_models: later.max_models.or(self.max_models),
            performance: later.performance.or(self.performance),
            threads: later.threads.or(self.threads),
            idle_ttl: later.idle_ttl.or(self.idle_ttl),
            load_timeout: later.load_timeout.or(self.load_timeout),
            memory_limit: later.memory_limit.or(self.memory_limit),
            kv_budget: later.kv_budget.or(self.kv_budget),
            prefix_cache: later.prefix_cache.or(self.prefix_cache),
            context: later.context.or(self.context),
            quantize: later.quantize.or(self.quantize),
            backend: later.backend.or(self.backend),
            queue_limit: later.queue_limit.or(self.queue_limit),
            max_sequences: later.max_sequences.or(self.max_sequences),
            max_batch_tokens: later.max_batch_tokens.or(self.max_batch_tokens),
            allowed_hosts: later.allowed_hosts.or(self.allowed_hosts),
            allowed_origins: later.allowed_origins.or(self.allowed_origins),
            api_key: later.api_key.or(self.api_key),
            keys: joined(self.keys, later.keys),
            max_body: later.max_body.or(self.max_body),
            max_connections: later.max_connections.or(self.max_connections),
            header_timeout: later.header_timeout.or(self.header_timeout),
            max_downloads: later.max_downloads.or(self.max_downloads),
            download_limit: later.download_limit.or(self.download_limit),
            log: later.log.or(self.log),
            log_format: later.log_format.or(self.log_format),
            chat: match (self.chat, later.chat) {
                (Some(chat), Some(later)) => Some(chat.overlaid(later)),
                (chat, later) => later.or(chat),
            },
            usage: match (self.usage, later.usage) {
                (Some(usage), Some(later)) => Some(usage.overlaid(later)),
                (usage, later) => later.or(usage),
            },
            models: joined(self.models, later.models),
        }
    }
}

fn joined<T>(first: Option<Vec<T>>, second: Option<Vec<T>>) -> Option<Vec<T>> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.into_iter().chain(second).collect()),
        (first, second) => first.or(second),
    }
}
