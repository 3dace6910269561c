//! The file itself: its tables, how it is opened, set aside when damaged, and erased.
//!
//! Several processes may have it open: a server, and a command beside it. Each holds a shared lock, and only one that has
//! it to itself looks at the log as bytes and sets a damaged file aside.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use perch_sqlite::{beside, fold, free_name, log_damage, private, remove};
use rusqlite::{Connection, OpenFlags};

use crate::error::UsageError;

/// The name of the file in its folder.
const NAME: &str = "usage.db";

/// One step for each version of the file. Days count from 1970; `kind` is 0 for the time to the first token and 1 for the
/// whole time; `bucket` is the histogram's.
const STEPS: &[&str] = &["
CREATE TABLE models(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE days(
    day INTEGER NOT NULL,
    model INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY(day, model)
) WITHOUT ROWID;
CREATE TABLE times(
    day INTEGER NOT NULL,
    model INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY(day, model, kind, bucket)
) WITHOUT ROWID;
CREATE TABLE errors(
    day INTEGER NOT NULL,
    model INTEGER NOT NULL,
    code TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY(day, model, code)
) WITHOUT ROWID;
"];

const VERSION: i64 = STEPS.len() as i64;

/// What only a file with all tables and columns can be asked.
const TABLES: &str = "SELECT name, completed, cancelled, failed, prompt_tokens, cached_tokens, completion_tokens, kind, \
                      bucket, code, times.count, errors.count FROM models, days, times, errors";

/// Where the file is.
pub(crate) fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

/// A file that is open, and what tells other processes so.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    _lock: File,
}

/// Opens the file in `folder` for writing. One that is not there is made; a damaged one is set aside first.
pub(crate) fn open(folder: &Path) -> Result<Opened, UsageError> {
    let path = path(folder);
    let unusable = unusable(&path);
    fs::create_dir_all(folder).map_err(unusable)?;
    let (lock, alone) = lock(folder).map_err(unusable)?;
    if let Some(reason) = damage(&path, alone)? {
        if !alone {
            return Err(UsageError::Damaged(reason));
        }
        set_aside(&path, &reason).map_err(unusable)?;
    }
    private(&path).map_err(unusable)?;
    let mut connection = Connection::open(&path)?;
    set_up(&connection)?;
    perch_sqlite::migrate(&mut connection, STEPS)?;
    Ok(Opened { connection, _lock: share(lock).map_err(unusable)? })
}

/// Opens the file in `folder` to read it; `None` if there is none.
pub(crate) fn look(folder: &Path) -> Result<Option<Opened>, UsageError> {
    let path = path(folder);
    let unusable = unusable(&path);
    // Nothing is made where there is nothing.
    if fs::metadata(&path).map_or(!path.exists(), |found| found.is_file() && found.len() == 0) {
        return Ok(None);
    }
    let (lock, alone) = lock(folder).map_err(unusable)?;
    if let Some(reason) = damage(&path, alone)? {
        return Err(UsageError::Damaged(reason));
    }
    Ok(Some(Opened { connection: existing(&path)?, _lock: share(lock).map_err(unusable)? }))
}

fn unusable(path: &Path) -> impl Fn(std::io::Error) -> UsageError + Copy + '_ {
    |error| UsageError::Unusable { path: path.to_owned(), reason: error.to_string() }
}

/// The lock of the file in `folder`, and whether nobody else has it.
fn lock(folder: &Path) -> std::io::Result<(File, bool)> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("usage.lock"))?;
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(fs::TryLockError::WouldBlock) => Ok((file, false)),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// From here on, others may have the file open as well.
fn share(lock: File) -> std::io::Result<File> {
    lock.unlock()?;
    lock.lock_shared()?;
    Ok(lock)
}

/// Opens a file that is there; not even its settings are changed.
fn existing(path: &Path) -> Result<Connection, UsageError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<(), UsageError> {
    connection.busy_timeout(Duration::from_secs(5))?;
    // NORMAL: a power failure may take the last seconds, never the file. What is deleted is overwritten.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
         PRAGMA secure_delete = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(())
}

/// What is wrong with the file at `path`, if anything. One that is not there is sound. A log that another process may be
/// writing to is not looked at.
fn damage(path: &Path, alone: bool) -> Result<Option<String>, UsageError> {
    let unusable = |reason: String| UsageError::Unusable { path: path.to_owned(), reason };
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(unusable("it is no file; move it away".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(error.to_string())),
        Ok(found) if found.len() == 0 => return Ok(None),
        Ok(_) => {}
    }
    if alone && let Some(reason) = log_damage(&beside(path, "wal")) {
        return Ok(Some(reason));
    }
    let connection = existing(path)?;
    let looked = (|| {
        let version = perch_sqlite::version(&connection)?;
        if version > VERSION {
            let reason = "a later Perch wrote it; update Perch, or erase it with `perch usage --erase`";
            return Err(unusable(reason.to_owned()));
        }
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(Some(verdict));
        }
        let ours = match version {
            0 => connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))?,
            _ => connection.prepare(TABLES).is_ok(),
        };
        Ok((!ours).then(|| "its tables are not those of a file of usage".to_owned()))
    })();
    let found = match looked {
        Err(UsageError::Damaged(reason)) => Some(reason),
        looked => looked?,
    };
    if found.is_some() {
        // Closing would fold the log of a damaged file into it; it is to stay as it was found.
        let kept = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(kept, true)?;
    }
    Ok(found)
}

/// Gives a damaged file another name. Counts can be begun anew; nothing is salvaged.
fn set_aside(path: &Path, reason: &str) -> std::io::Result<()> {
    let aside = free_name(path);
    for end in ["wal", "shm"] {
        match fs::rename(beside(path, end), beside(&aside, end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    tracing::error!(reason, file = %aside.display(), "the file of usage was damaged and is set aside; counting begins anew");
    Ok(())
}

/// Damaged files of `folder` that were set aside.
pub fn damaged_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("usage.damaged-") && name.ends_with(".db")
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    files.sort();
    files
}

/// Bytes that usage takes in `folder`, damaged files included.
pub fn file_bytes(folder: &Path) -> u64 {
    let files = damaged_files(folder).into_iter().chain([path(folder)]);
    let all = files.flat_map(|path| [beside(&path, "wal"), path]);
    all.filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

/// Removes the damaged files of `folder`, and with `all` the file itself.
///
/// # Errors
/// [`UsageError::Unusable`] with the first that cannot be removed.
pub(crate) fn remove_files(folder: &Path, all: bool) -> Result<(), UsageError> {
    let going = || damaged_files(folder).into_iter().chain(all.then(|| path(folder)));
    going().for_each(|path| remove(&path));
    match going().find(|path| path.exists()) {
        Some(path) => {
            Err(UsageError::Unusable { path, reason: "it cannot be removed; delete it by hand".to_owned() })
        }
        None => Ok(()),
    }
}

/// Empties all tables and gives their space back.
pub(crate) fn empty(connection: &Connection) -> Result<(), UsageError> {
    connection.execute_batch(
        "PRAGMA secure_delete = ON; BEGIN IMMEDIATE; DELETE FROM days; DELETE FROM times; DELETE FROM errors; \
         DELETE FROM models; COMMIT; VACUUM;",
    )?;
    fold(connection);
    Ok(())
}
