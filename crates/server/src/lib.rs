//! The server: [`ServerHandle`], configuration, keys, routes per dialect, the model pool, metrics and status.
//!
//! Knows HTTP and every noun of the siblings, and no backend: whoever starts a server brings a [`Loader`].

#![allow(dead_code, unused_imports)]

mod config;
mod error;
mod extract;
mod handle;
mod http;
mod security;

pub use self::http::PortHolder;
pub use config::{
    ByteSize, Config, ConfigError, HttpConfig, Layer, Lifetime, ModelConfig, PoolConfig, SamplingDefaults,
    Sources,
};
pub use error::ApiError;
pub use handle::StartError;
pub use security::{KeyConfig, Scope};
