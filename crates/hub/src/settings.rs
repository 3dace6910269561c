//! `SettingsFile`: `models.toml`, the one configuration file that Perch writes itself. What people wrote in it (comments,
//! order, spacing) stays as it is.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::profile::Settings;

/// Why `models.toml` could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// It is not what a `models.toml` is.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system does not let us.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A `[[models]]` entry, as far as the library needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsEntry {
    /// What requests call the model.
    pub id: String,
    /// Its file or folder, where the entry names one. May be relative to the data folder.
    pub path: Option<PathBuf>,
}

/// `models.toml`, which need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsFile {
    path: PathBuf,
}

impl SettingsFile {
    /// The file at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The models it names.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn entries(&self) -> Result<Vec<SettingsEntry>, SettingsError> {
        let document = self.read()?;
        let text = |table: &Table, key: &str| table.get(key).and_then(Item::as_str).map(str::to_owned);
        let entry = |table: &Table| {
            let path = text(table, "path").map(PathBuf::from);
            text(table, "id").map(|id| SettingsEntry { id, path })
        };
        Ok(tables(&document).map(|tables| tables.iter().filter_map(entry).collect()).unwrap_or_default())
    }

    /// Whether it has an entry with this id. A file that cannot be read has none.
    pub fn has(&self, id: &str) -> bool {
        self.entries().unwrap_or_default().iter().any(|entry| entry.id == id)
    }

    /// Writes the settings of `id`: into its entry if there is one, else into a new one at the end. Keys that `settings`
    /// does not say keep what they have.
    ///
    /// # Errors
    /// [`SettingsError`]; the file is then as it was.
    pub fn set(&self, id: &str, settings: &Settings) -> Result<(), SettingsError> {
        let mut document = self.read()?;
        let item = document.entry("models").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
        let Some(tables) = item.as_array_of_tables_mut() else { return Err(self.not_tables()) };
        let known = tables.iter().position(|table| table.get("id").and_then(Item::as_str) == Some(id));
        let at = known.unwrap_or_else(|| {
            let mut table = Table::new();
            table.insert("id", value(id));
            tables.push(table);
            tables.len() - 1
        });
        if let Some(table) = tables.get_mut(at) {
            settings.write(table);
        }
        self.write(&document)
    }

    /// Takes out the entry of `id`. Says whether there was one.
    ///
    /// # Errors
    /// [`SettingsError`]; the file is then as it was.
    pub fn remove(&self, id: &str) -> Result<bool, SettingsError> {
        let mut document = self.read()?;
        let Some(tables) = document.get_mut("models").and_then(Item::as_array_of_tables_mut) else {
            return Ok(false);
        };
        let before = tables.len();
        tables.retain(|table| table.get("id").and_then(Item::as_str) != Some(id));
        if tables.len() == before {
            return Ok(false);
        }
        if tables.is_empty() {
            document.remove("models");
        }
        self.write(&document)?;
        Ok(true)
    }

    fn read(&self) -> Result<DocumentMut, SettingsError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DocumentMut::new()),
            other => other.map_err(|source| self.io(source))?,
        };
        let invalid = |reason: String| SettingsError::Invalid { path: self.path.clone(), reason };
        text.parse::<DocumentMut>().map_err(|error| invalid(error.to_string().trim_end().to_owned()))
    }

    /// Whole or not at all: written beside it, then renamed over it. A link stays one; what it leads to is replaced.
    fn write(&self, document: &DocumentMut) -> Result<(), SettingsError> {
        let target = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let folder = target.parent().unwrap_or(Path::new("."));
        let written = fs::create_dir_all(folder).and_then(|()| {
            let mut file = tempfile::Builder::new().prefix(".models-").suffix(".toml").tempfile_in(folder)?;
            file.write_all(document.to_string().as_bytes())?;
            if let Ok(meta) = fs::metadata(&target) {
                file.as_file().set_permissions(meta.permissions())?;
            }
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)?;
            Ok(())
        });
        written.map_err(|source| self.io(source))
    }

    fn io(&self, source: std::io::Error) -> SettingsError {
        SettingsError::Io { path: self.path.clone(), source }
    }

    fn not_tables(&self) -> SettingsError {
        let reason = "`models` is not a list of tables; write each model as a [[models]] table".to_owned();
        SettingsError::Invalid { path: self.path.clone(), reason }
    }
}

fn tables(document: &DocumentMut) -> Option<&ArrayOfTables> {
    document.get("models").and_then(Item::as_array_of_tables)
}
