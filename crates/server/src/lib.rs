//! The server: [`ServerHandle`], configuration, keys, routes per dialect, the model pool, metrics and status.
//!
//! Knows HTTP and every noun of the siblings, and no backend: whoever starts a server brings a [`Loader`].

mod activity;
mod app;
mod chats;
mod clock;
mod config;
mod control;
mod error;
mod extract;
mod handle;
mod http;
mod hub;
mod inference;
mod library;
mod loader;
mod loading;
mod logs;
mod metrics;
mod observe;
mod openapi;
mod pool;
mod routes;
mod security;
mod settings;
mod status;
mod upstream;

pub use self::http::PortHolder;
pub use config::{
    ByteSize, ChatConfig, ChatLayer, Config, ConfigError, HttpConfig, Layer, Lifetime, ModelConfig,
    Overrides, Performance, PoolConfig, Provider, SamplingDefaults, Sources, UsageConfig, UsageLayer,
};
pub use control::{Compose, Control, ControlError, DRAIN, Desktop, Snapshot, Surface};
pub use error::ApiError;
pub use handle::{ServerHandle, StartError};
pub use hub::{Advisor, preference};
pub use library::{LocalLibrary, Running};
pub use loader::{BuiltIn, LoadError, LoadJob, Loader, Needs};
pub use loading::ModelText;
pub use logs::LogBuffer;
pub use pool::{Entry, Lease, LoadedModel, ModelPool, chosen_default};
pub use security::{KeyConfig, Scope};
pub use settings::change_settings;
