//! `SettingsStore`: what the server was told, and changes to `config.toml`.
//!
//! The file is read anew for every question, so what an editor changed is seen. A change is checked as at the start and
//! written whole, or not at all. Keys and whether usage is counted count at once; all other settings from the next start
//! on.

mod edit;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex as Lock;
use perch_protocol::{ApiKeyInfo, CreatedKey, ErrorCode, Setting, SettingSource, Settings, SettingsPatch};
use perch_usage::Recorder;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use crate::config::{Config, ConfigError, Layer, Overrides, env, file};
use crate::error::ApiError;
use crate::http::addresses;
use crate::security::{Guard, KeyConfig, KeyRing, Scope};

/// What the server was told.
pub(crate) struct SettingsStore {
    data_dir: PathBuf,
    overrides: Overrides,
    /// What the running server works with.
    running: Lock<Map<String, Value>>,
    live: Option<Live>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// What changes take effect in at once.
pub(crate) struct Live {
    pub(crate) guard: Arc<Guard>,
    pub(crate) usage: Arc<Recorder>,
}

/// Changes `config.toml` as `PATCH /api/settings` does, while no server runs.
///
/// # Errors
/// As there: a value that no start would take, or a variable or flag that has the last word.
pub async fn change_settings(config: &Config, patch: SettingsPatch) -> Result<Settings, ApiError> {
    let config = config.clone();
    let store = blocking(move || Ok(Arc::new(SettingsStore::open(&config, None)))).await?;
    store.change(patch).await
}

/// A change that can be made.
struct Change {
    config: Config,
    text: String,
    created: Vec<CreatedKey>,
}

impl SettingsStore {
    /// Reads the file as it is now, which is what the server starts with. Blocks.
    pub(crate) fn open(config: &Config, live: Option<Live>) -> Self {
        let (data_dir, overrides) = (config.data_dir.clone(), config.overrides.clone());
        let file = file::layer(&data_dir).unwrap_or_default();
        let running = Lock::new(effective(&file, &overrides));
        Self { data_dir, overrides, running, live, changing: Mutex::new(()) }
    }

    /// Everything, as it would count at the next start.
    ///
    /// # Errors
    /// `conflict`: the file is damaged.
    pub(crate) async fn read(self: &Arc<Self>) -> Result<Settings, ApiError> {
        let store = self.clone();
        blocking(move || Ok(store.view(&file::layer(&store.data_dir).map_err(damaged)?))).await
    }

    /// Changes `config.toml`, and the keys of the running server.
    ///
    /// # Errors
    /// `invalid_value` for a value that no start would take; `conflict` where a variable or a flag has the last word, or
    /// where nobody could come in any more.
    pub(crate) async fn change(self: &Arc<Self>, patch: SettingsPatch) -> Result<Settings, ApiError> {
        let _one = self.changing.lock().await;
        let store = self.clone();
        let change = blocking(move || store.plan(&patch)).await?;
        addresses(&change.config).await.map_err(|error| {
            ApiError::new(ErrorCode::Conflict, format!("Perch could not start with this: {error}"))
        })?;
        let store = self.clone();
        blocking(move || {
            write(&store.path(), &change.text).map_err(|error| {
                let path = store.path();
                ApiError::new(
                    ErrorCode::EngineError,
                    format!("{} cannot be written: {error}", path.display()),
                )
            })?;
            let said = file::layer(&store.data_dir).map_err(damaged)?;
            store.take_up(&change.config, &said);
            let mut settings = store.view(&said);
            settings.created_keys = change.created;
            Ok(settings)
        })
        .await
    }

    /// Changes in the running server what can be changed there.
    fn take_up(&self, config: &Config, said: &Layer) {
        let Some(Live { guard, usage }) = &self.live else { return };
        guard.set_keys(KeyRing::new(&config.keys));
        usage.configure(config.usage.enabled, config.usage.retention_days);
        let live = effective(said, &self.overrides).into_iter().filter(|(key, _)| key.starts_with("usage."));
        self.running.lock().extend(live);
    }

    fn path(&self) -> PathBuf {
        self.data_dir.join("config.toml")
    }

    /// What the file would be, checked.
    fn plan(&self, patch: &SettingsPatch) -> Result<Change, ApiError> {
        let text = file::text(&self.path()).map_err(damaged)?.unwrap_or_default();
        let said = file::layer_with(&self.data_dir, &text).map_err(damaged)?;
        let before = self.view(&said);
        for key in patch.settings.keys() {
            if let Some(setting) = before.settings.iter().find(|setting| setting.key == *key) {
                overruled(setting)?;
            }
        }
        let edited = edit::edited(&text, &said, patch)?;
        let said = file::layer_with(&self.data_dir, &edited.text).map_err(refused)?;
        let config = Config::of(self.data_dir.clone(), said, self.overrides.clone());
        config.check().map_err(refused)?;
        if config.needs_key() && !config.keys.iter().any(|key| key.scopes.contains(&Scope::Admin)) {
            let message = "no key would have the scope `admin`, and nobody could change anything here any more; \
                           make one that has it first";
            return Err(ApiError::new(ErrorCode::Conflict, message).with_param("keys"));
        }
        Ok(Change { config, text: edited.text, created: edited.created })
    }

    fn view(&self, file: &Layer) -> Settings {
        let layers = [
            (SettingSource::Default, Layer::defaults().values()),
            (SettingSource::File, file.values()),
            (SettingSource::Environment, self.overrides.env.values()),
            (SettingSource::Flag, self.overrides.flags.values()),
        ];
        let running = self.running.lock().clone();
        let settings: Vec<Setting> = Layer::names(layers.iter().map(|(_, values)| values))
            .into_iter()
            .map(|key| {
                let said = layers
                    .iter()
                    .rev()
                    .find_map(|(source, values)| Some((*source, values.get(&key)?.clone())));
                let (source, value) = said.unwrap_or_default();
                Setting {
                    default: layers[0].1.get(&key).cloned().unwrap_or_default(),
                    variable: env::variable(&key).map(str::to_owned),
                    restart_needed: running.get(&key).unwrap_or(&Value::Null) != &value,
                    key,
                    value,
                    source,
                }
            })
            .collect();
        let restart_needed = settings.iter().any(|setting| setting.restart_needed);
        let Overrides { env, flags } = &self.overrides;
        let keys =
            [(SettingSource::File, file), (SettingSource::Environment, env), (SettingSource::Flag, flags)];
        Settings {
            config_file: self.path().display().to_string(),
            data_dir: self.data_dir.display().to_string(),
            settings,
            keys: keys.iter().flat_map(|(source, layer)| key_infos(*source, layer)).collect(),
            restart_needed,
            created_keys: Vec::new(),
        }
    }
}

/// What counts of all that was said.
fn effective(file: &Layer, overrides: &Overrides) -> Map<String, Value> {
    let mut values = Layer::defaults().values();
    for layer in [file, &overrides.env, &overrides.flags] {
        values.extend(layer.values());
    }
    values
}

fn key_infos(source: SettingSource, layer: &Layer) -> Vec<ApiKeyInfo> {
    let single = layer.api_key.as_ref().map(|key| KeyConfig::all_scopes("api_key", key.as_str()));
    let keys = layer.keys.iter().flatten().chain(&single);
    keys.map(|key| ApiKeyInfo {
        id: key.id().unwrap_or_default(),
        name: key.name.clone(),
        scopes: key.scopes.iter().map(ToString::to_string).collect(),
        source,
    })
    .collect()
}

/// An error where what is written to the file would change nothing.
fn overruled(setting: &Setting) -> Result<(), ApiError> {
    let who = match setting.source {
        SettingSource::Default | SettingSource::File => return Ok(()),
        SettingSource::Environment => {
            format!("the variable {}", setting.variable.as_deref().unwrap_or("PERCH_…"))
        }
        SettingSource::Flag => "a flag of the command line".to_owned(),
    };
    let message = format!("`{}` is set by {who}, which wins over config.toml; change it there", setting.key);
    Err(ApiError::new(ErrorCode::Conflict, message).with_param(format!("settings.{}", setting.key)))
}

fn damaged(error: ConfigError) -> ApiError {
    ApiError::new(
        ErrorCode::Conflict,
        format!("the settings cannot be read; correct the file first: {error}"),
    )
}

fn refused(error: ConfigError) -> ApiError {
    match error {
        ConfigError::Invalid { key, message } => {
            ApiError::invalid(format!("settings.{key}"), format!("`{key}`: {message}"))
        }
        other => ApiError::new(ErrorCode::InvalidValue, other.to_string()),
    }
}

/// Replaces a file whole; a link to it stays a link. A new one can be read by its owner alone: it may hold keys.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    if let Ok(old) = std::fs::metadata(&path) {
        new.as_file().set_permissions(old.permissions())?;
    }
    new.as_file().sync_all()?;
    new.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ApiError::new(ErrorCode::EngineError, "reading the settings failed; the log says more"))?
}
