//! Checks of the `[[models]]` tables, and reading them again while a server runs.

use std::collections::HashSet;

use super::{Config, ConfigError, ModelConfig, file};
use crate::upstream;

impl Config {
    /// What the files in the data directory say of models now, checked. Blocks.
    pub(crate) fn models_now(&self) -> Result<Vec<ModelConfig>, ConfigError> {
        let models = file::layer(&self.data_dir)?.models.unwrap_or_default();
        check_models(&models, self.pool.max_models)?;
        Ok(models)
    }
}

/// Checks what can be checked without a look at the models themselves.
pub(super) fn check_models(models: &[ModelConfig], max_models: usize) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for model in models {
        let fail = |key: &str, message: String| {
            Err(ConfigError::invalid(format!("models.{}{key}", model.id), message))
        };
        if model.id.is_empty() {
            return Err(ConfigError::invalid("models.id", "must not be empty"));
        }
        if model.id.contains('*') {
            return fail("", "an id cannot hold `*`; aliases can".to_owned());
        }
        if let Some(reason) = model.defaults.out_of_range() {
            return fail(".defaults", reason);
        }
        if model.context == Some(0) {
            return fail(".context", "must be at least 1".to_owned());
        }
        if let Some((key, reason)) = upstream::fault(model) {
            return fail(&format!(".{key}"), reason);
        }
        if model.path.is_some() && model.repo.is_some() {
            return fail("", "has both `path` and `repo`; keep one".to_owned());
        }
        for name in model.aliases.iter().chain([&model.id]) {
            if name.is_empty() {
                return fail(".aliases", "an alias must not be empty".to_owned());
            }
            if !names.insert(name) {
                return fail("", format!("the name `{name}` is given twice"));
            }
        }
    }
    let preloaded = models.iter().filter(|model| model.preload && model.is_enabled()).count();
    if preloaded > max_models {
        let message = format!(
            "{preloaded} models are to be loaded at the start, but `max_models` is {max_models}; raise it, or preload \
             fewer"
        );
        return Err(ConfigError::invalid("models.preload", message));
    }
    Ok(())
}
