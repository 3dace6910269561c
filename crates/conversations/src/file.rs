//! The file itself: locked against a second process, checked, set aside when damaged, and begun anew.
//!
//! Setting aside is safe at every point: the new file is whole on the disk before the old one gets another name, and a
//! step that was cut off is finished or begun again at the next start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use perch_protocol::conversations::StoreHealth;
use perch_sqlite::{beside, free_name, log_damage, private, remove};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::{check, salvage, schema};

/// The name of the file in its folder.
const NAME: &str = "conversations.db";

/// What became of a damaged file. Told until somebody deletes or moves that file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The damaged file under its new name; its write-ahead log lies beside it.
    pub file: PathBuf,
    /// What was wrong with it.
    pub reason: String,
    /// Conversations that could be read.
    pub conversations: u64,
    /// Messages that could be read.
    pub messages: u64,
}

impl Recovery {
    /// What happened and what to do.
    pub fn message(&self) -> String {
        format!(
            "the file of conversations was damaged ({}); it is kept as {}, and {} conversations with {} messages were saved \
             from it. Compare them, and then delete that file",
            self.reason,
            self.file.display(),
            self.conversations,
            self.messages
        )
    }

    /// The same for programs.
    pub fn health(&self) -> StoreHealth {
        StoreHealth {
            status: "recovered".to_owned(),
            message: Some(self.message()),
            damaged_file: Some(self.file.display().to_string()),
            recovered_conversations: Some(self.conversations),
            recovered_messages: Some(self.messages),
        }
    }
}

/// A file that is open: the connection that writes, and what keeps other processes out.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) writer: Connection,
    pub(crate) recovery: Option<Recovery>,
    pub(crate) lock: File,
}

/// Opens the file in `folder`, sound or made so.
pub(crate) fn open(folder: &Path) -> Result<Opened, StoreError> {
    let path = folder.join(NAME);
    let unusable = |reason: String| StoreError::Unusable { path: path.clone(), reason };
    fs::create_dir_all(folder).map_err(|error| unusable(error.to_string()))?;
    let lock = lock(&folder.join("conversations.lock")).map_err(unusable)?;

    let rescued = beside(&path, "rescued");
    match (rescued.exists(), path.exists()) {
        // Cut off between the two renames below.
        (true, false) => fs::rename(&rescued, &path).map_err(|error| unusable(error.to_string()))?,
        (true, true) => remove(&rescued),
        (false, _) => {}
    }
    if let Some(reason) = damage(&path)? {
        set_aside(&path, &rescued, reason)?;
    }
    private(&path).map_err(|error| unusable(error.to_string()))?;
    let mut writer = Connection::open(&path)?;
    let version = perch_sqlite::version(&writer)?;
    if version > schema::VERSION {
        let reason = format!(
            "it was written by a later Perch (version {version} of the file; this one knows {}); update Perch",
            schema::VERSION
        );
        return Err(unusable(reason));
    }
    schema::set_up(&writer, true)?;
    perch_sqlite::migrate(&mut writer, schema::STEPS)?;
    let recovery = told(&writer)?;
    Ok(Opened { recovery, writer, lock, path })
}

fn lock(path: &Path) -> Result<File, String> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(|error| error.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err("another Perch with the same data folder is using it; stop it, or give this one a folder of its own".into())
        }
        Err(fs::TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// What is wrong with the file at `path`, if anything.
fn damage(path: &Path) -> Result<Option<String>, StoreError> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            let reason = "it is no file; move it away".to_owned();
            return Err(StoreError::Unusable { path: path.to_owned(), reason });
        }
        // A log without its file is left from a file that somebody deleted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let log = beside(path, "wal");
            return Ok(log.exists().then(|| "only its write-ahead log is there".to_owned()));
        }
        Err(error) => {
            return Err(StoreError::Unusable { path: path.to_owned(), reason: error.to_string() });
        }
        Ok(found) if found.len() == 0 && !beside(path, "wal").exists() => return Ok(None),
        Ok(_) => {}
    }
    if let Some(reason) = log_damage(&beside(path, "wal")) {
        return Ok(Some(reason));
    }
    let connection = Connection::open(path)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let found = check::damage(&connection)?;
    // Closing would fold the log of a damaged file into it; it is to stay as it was found.
    if found.is_some() {
        connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    }
    Ok(found)
}

/// Saves what can be read of the file at `path` into a new one, and gives the damaged one another name.
fn set_aside(path: &Path, rescued: &Path, reason: String) -> Result<(), StoreError> {
    let unusable = |error: std::io::Error| StoreError::Unusable {
        path: path.to_owned(),
        reason: format!("it is damaged ({reason}) and cannot be set aside: {error}"),
    };
    let aside = free_name(path);
    let part = beside(path, "part");
    remove(&part);
    let saved = salvage::salvage(path, &part)?;
    let recovery = Recovery {
        file: aside.clone(),
        reason: reason.clone(),
        conversations: saved.conversations,
        messages: saved.messages,
    };
    tell(&part, &recovery)?;
    File::open(&part).and_then(|file| file.sync_all()).map_err(unusable)?;
    fs::rename(&part, rescued).map_err(unusable)?;
    // The log first: a file without its log is damaged still, a log without its file might be taken for another's.
    for end in ["wal", "shm"] {
        match fs::rename(beside(path, end), beside(&aside, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(error)),
            _ => {}
        }
    }
    match fs::rename(path, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(error)),
        _ => {}
    }
    fs::rename(rescued, path).map_err(unusable)?;
    tracing::error!(file = %aside.display(), "{}", recovery.message());
    Ok(())
}

const KEY: &str = "recovery";

fn tell(file: &Path, recovery: &Recovery) -> Result<(), StoreError> {
    let connection = Connection::open(file)?;
    let text = serde_json::to_string(recovery)?;
    connection.execute("INSERT OR REPLACE INTO settings(key, value) VALUES (?1, ?2)", (KEY, text))?;
    Ok(())
}

/// What became of a file that was damaged, as long as it lies there.
fn told(connection: &Connection) -> Result<Option<Recovery>, StoreError> {
    let text: Option<String> = connection
        .query_row("SELECT value FROM settings WHERE key = ?1", [KEY], |row| row.get(0))
        .optional()?;
    let recovery: Option<Recovery> = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(recovery.filter(|recovery| recovery.file.exists() || beside(&recovery.file, "wal").exists()))
}
