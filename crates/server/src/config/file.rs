//! `config.toml` and `models.toml` in the data directory.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ConfigError, Layer, ModelConfig};

/// `models.toml` holds models and nothing else, so that a program can write it whole.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelsFile {
    #[serde(default)]
    models: Vec<ModelConfig>,
}

/// What the two files say; files that are not there say nothing. Relative paths in them become absolute.
pub(crate) fn layer(data_dir: &Path) -> Result<Layer, ConfigError> {
    let path = data_dir.join("config.toml");
    layer_with(data_dir, &text(&path)?.unwrap_or_default())
}

/// The same, if `config.toml` held `config`.
pub(crate) fn layer_with(data_dir: &Path, config: &str) -> Result<Layer, ConfigError> {
    let config: Layer = parse(&data_dir.join("config.toml"), config)?;
    let path = data_dir.join("models.toml");
    let models: ModelsFile = parse(&path, &text(&path)?.unwrap_or_default())?;
    let models = (!models.models.is_empty()).then_some(models.models);
    let mut layer = config.overlaid(Layer { models, ..Layer::default() });
    for path in layer.models_dirs.iter_mut().flatten() {
        *path = data_dir.join(&*path);
    }
    for path in layer.models.iter_mut().flatten().filter_map(|model| model.path.as_mut()) {
        *path = data_dir.join(&*path);
    }
    Ok(layer)
}

/// The text of a file, if it is there.
pub(crate) fn text(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Io { path: path.to_owned(), source }),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::File {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}
