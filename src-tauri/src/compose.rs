//! Where the app's server gets its configuration and backends from: the same files and variables as `perch serve`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use perch_backends::Backends;
use perch_server::{Compose, Config, ConfigError, Layer, Loader, LogBuffer, Performance, Sources};

/// What the configuration said last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    /// How much of the machine the server takes.
    pub(crate) performance: Performance,
    /// Perch's own folder.
    pub(crate) data_dir: PathBuf,
}

/// The configuration, read anew at every start.
pub(crate) struct Composer {
    logs: LogBuffer,
    said: Arc<Mutex<Said>>,
}

impl Composer {
    pub(crate) fn new(logs: LogBuffer, said: Arc<Mutex<Said>>) -> Self {
        Self { logs, said }
    }
}

impl Compose for Composer {
    fn config(&self) -> Result<Config, ConfigError> {
        let config = config()?;
        let said = Said { performance: config.performance, data_dir: config.data_dir.clone() };
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = said;
        Ok(config)
    }

    fn loader(&self, config: &Config) -> Arc<dyn Loader> {
        Arc::new(Backends::new(config.compute_threads()))
    }

    fn logs(&self) -> LogBuffer {
        self.logs.clone()
    }
}

/// The files and variables, as they are now.
pub(crate) fn config() -> Result<Config, ConfigError> {
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(Sources { data_dir: None, env: env.collect(), flags: Layer::default() })
}
