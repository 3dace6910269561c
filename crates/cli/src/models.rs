//! Which model a command means when it names one, and when it names none.

use anyhow::{Context, Result, bail};
use perch_hub::{Library, LibraryConfig, LocalModel};
use perch_server::Config;

/// The library of a configuration.
pub(crate) fn library(config: &Config) -> Library {
    Library::new(LibraryConfig {
        models_dirs: config.models_dirs.clone(),
        hf_home: None,
        data_dir: config.data_dir.clone(),
    })
}

/// The model called `name`; without a name the default model, else the only one there is.
pub(crate) fn chosen(name: Option<&str>, library: &Library, config: &Config) -> Result<LocalModel> {
    let name = name.or(config.default_model.as_deref());
    let Some(name) = name else { return only(library) };
    // A configured name stands for a path or for another id.
    let configured = config.models.iter().find(|model| model.answers_to(name));
    if let Some(path) = configured.and_then(|model| model.path.as_ref()) {
        return Ok(library.at_path(path)?);
    }
    let id = configured.map_or(name, |model| model.repo.as_deref().unwrap_or(&model.id));
    Ok(library.resolve(id)?)
}

fn only(library: &Library) -> Result<LocalModel> {
    let mut models = library.scan();
    if models.len() > 1 {
        let names: Vec<&str> = models.iter().take(8).map(|model| model.id.as_str()).collect();
        bail!("which model? Name one of: {}", names.join(", "));
    }
    models.pop().context("there are no models on this machine; `perch list` says where they are looked for")
}
