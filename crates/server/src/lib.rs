//! The server: [`ServerHandle`], configuration, keys, routes per dialect, the model pool, metrics and status.
//!
//! Knows HTTP and every noun of the siblings, and no backend: whoever starts a server brings a [`Loader`].

mod activity;
mod app;
mod clock;
mod config;
mod error;
mod extract;
mod handle;
mod http;
mod inference;
mod loader;
mod loading;
mod metrics;
mod observe;
mod openapi;
mod pool;
mod routes;
mod security;
mod status;

pub use self::http::PortHolder;
pub use config::{
    ByteSize, Config, ConfigError, HttpConfig, Layer, Lifetime, ModelConfig, PoolConfig, SamplingDefaults,
    Sources,
};
pub use error::ApiError;
pub use handle::{ServerHandle, StartError};
pub use loader::{LoadError, LoadJob, Loader, Needs};
pub use loading::ModelText;
pub use pool::{Entry, Lease, LoadedModel, ModelPool};
pub use security::{KeyConfig, Scope};
