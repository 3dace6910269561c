//! Which model a command means when it names one, and when it names none.

use anyhow::{Context, Result};
use perch_hub::{Library, LibraryConfig, LocalModel};
use perch_server::{BuiltIn, Config, LocalLibrary, chosen_default};

/// The library of a configuration.
pub(crate) fn library(config: &Config) -> Library {
    Library::new(LibraryConfig {
        models_dirs: config.models_dirs.clone(),
        hf_home: None,
        data_dir: config.data_dir.clone(),
    })
}

/// The models on this machine as they are described, the built-in one among them.
pub(crate) fn local(config: &Config) -> LocalLibrary {
    LocalLibrary::new(config).with_built_in(Some(perch_backends::built_in()))
}

/// The model called `name`; without a name the one that a server would take: the default model, else the one that the user
/// chose, else the only one, else the newest.
pub(crate) fn chosen(name: Option<&str>, library: &Library, config: &Config) -> Result<LocalModel> {
    if let Some(name) = name.or(config.default_model.as_deref()) {
        return named(name, library, config);
    }
    let chosen = chosen_default(&config.data_dir);
    match chosen.and_then(|name| named(&name, library, config).ok()) {
        Some(model) => Ok(model),
        None => newest(library),
    }
}

/// The built-in model, where it is the one that `name` means, or the only one there is. As in a server, a model of the
/// library with the very same id hides it.
pub(crate) fn built_in(name: Option<&str>, library: &Library, config: &Config) -> Option<BuiltIn> {
    let model = Some(perch_backends::built_in()).filter(|_| config.builtin)?;
    let is = |name: &str| {
        let elsewhere = |model: &perch_server::ModelConfig| model.path.is_some() || model.repo.is_some();
        name.eq_ignore_ascii_case(model.id)
            && !config.models.iter().any(|model| model.answers_to(name) && elsewhere(model))
            && !library.find(name).is_ok_and(|local| local.id.eq_ignore_ascii_case(name))
    };
    if let Some(name) = name.or(config.default_model.as_deref()) {
        return is(name).then_some(model);
    }
    let meant = match chosen_default(&config.data_dir).filter(|name| is(name) || library.find(name).is_ok()) {
        Some(chosen) => is(&chosen),
        None => library.scan().is_empty() && config.models.iter().all(|model| model.path.is_none()),
    };
    meant.then_some(model)
}

fn named(name: &str, library: &Library, config: &Config) -> Result<LocalModel> {
    // A configured name stands for a path or for another id.
    let configured = config.models.iter().find(|model| model.answers_to(name));
    if let Some(path) = configured.and_then(|model| model.path.as_ref()) {
        return Ok(library.at_path(path)?);
    }
    let id = configured.map_or(name, |model| model.repo.as_deref().unwrap_or(&model.id));
    Ok(library.resolve(id)?)
}

fn newest(library: &Library) -> Result<LocalModel> {
    let models = library.scan();
    let newest = models.into_iter().max_by(|a, b| a.modified.cmp(&b.modified).then(b.id.cmp(&a.id)));
    newest.context("there are no models on this machine; `perch list` says where they are looked for")
}
