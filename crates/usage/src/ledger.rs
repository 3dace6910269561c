//! `Ledger`: sums by day and model, in one small SQLite file.

use std::path::Path;

use jiff::civil::Date;
use perch_protocol::{Outcome, UsageErased};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::entry::{Entry, today};
use crate::error::UsageError;
use crate::file::{self, Opened};
use crate::histogram::bucket;

/// Bytes above which the oldest days go, whatever was said about how long they stay.
const MAX_BYTES: i64 = 32 << 20;

/// Kinds of times.
pub(crate) const FIRST_TOKEN: i64 = 0;
pub(crate) const DURATION: i64 = 1;

/// Sums by day and model.
pub struct Ledger {
    file: Opened,
    /// Bytes above which the oldest days go.
    pub(crate) max_bytes: i64,
}

impl Ledger {
    /// Opens the file in `folder` for writing. One that is not there is made; a damaged one is set aside. Blocks.
    ///
    /// # Errors
    /// [`UsageError`]: the folder cannot be written to, or a later Perch made the file.
    pub fn open(folder: &Path) -> Result<Self, UsageError> {
        Ok(Self { file: file::open(folder)?, max_bytes: MAX_BYTES })
    }

    /// Opens the file in `folder` as it is; `None` if there is none. Blocks.
    ///
    /// # Errors
    /// [`UsageError::Damaged`], and those of [`Ledger::open`].
    pub fn look(folder: &Path) -> Result<Option<Self>, UsageError> {
        let found = file::look(folder)?;
        Ok(found.map(|file| Self { file, max_bytes: MAX_BYTES }))
    }

    /// Adds requests: all or, with an error, none.
    ///
    /// # Errors
    /// What the database says.
    pub fn add(&mut self, entries: &[Entry]) -> Result<(), UsageError> {
        let tx = self.file.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        entries.iter().try_for_each(|entry| add(&tx, entry))?;
        Ok(tx.commit()?)
    }

    /// Forgets what is older than so many days, today included; and, where the file has grown too large, the oldest days.
    ///
    /// # Errors
    /// What the database says.
    pub fn forget(&mut self, retention_days: u32) -> Result<(), UsageError> {
        let first = number(today()) - i64::from(retention_days.max(1)) + 1;
        let most = self.max_bytes;
        let tx = self.file.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        forget_before(&tx, first)?;
        while used_bytes(&tx)? > most {
            let oldest: Option<i64> = tx.query_row("SELECT min(day) FROM days", [], |row| row.get(0))?;
            let Some(oldest) = oldest else { break };
            forget_before(&tx, oldest + 1)?;
        }
        tx.execute("DELETE FROM models WHERE id NOT IN (SELECT model FROM days)", [])?;
        tx.commit()?;
        Ok(self.connection().execute_batch("PRAGMA incremental_vacuum")?)
    }

    /// Erases all that is kept in `folder`: the tables of the file, which other processes may have open, and what was set
    /// aside. A file that cannot be read is removed. Says how much there was. Blocks.
    ///
    /// # Errors
    /// [`UsageError::Unusable`] when something cannot be removed.
    pub fn erase(folder: &Path) -> Result<UsageErased, UsageError> {
        let emptied = Self::look(folder).and_then(|found| {
            let Some(ledger) = found else { return Ok(UsageErased::default()) };
            let extent = ledger.extent()?;
            file::empty(ledger.connection())?;
            Ok(extent)
        });
        file::remove_files(folder, emptied.is_err())?;
        Ok(emptied.unwrap_or_default())
    }

    /// Moves the write-ahead log into the file.
    pub(crate) fn fold(&self) -> bool {
        perch_sqlite::fold(self.connection())
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.file.connection
    }
}

/// A day as the file has it.
pub(crate) fn number(day: Date) -> i64 {
    day.since(Date::constant(1970, 1, 1)).map_or(0, |span| span.get_days().into())
}

/// The day that the file means.
pub(crate) fn date(number: i64) -> Date {
    let days = jiff::Span::new().try_days(number);
    days.ok().and_then(|days| Date::constant(1970, 1, 1).checked_add(days).ok()).unwrap_or_default()
}

fn add(tx: &Transaction<'_>, entry: &Entry) -> Result<(), UsageError> {
    let (day, model) = (number(entry.day), model_id(tx, &entry.model)?);
    let ended = |outcome: bool| i64::from(outcome);
    let sql = "INSERT INTO days VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET \
               completed = completed + excluded.completed, cancelled = cancelled + excluded.cancelled, \
               failed = failed + excluded.failed, prompt_tokens = prompt_tokens + excluded.prompt_tokens, \
               cached_tokens = cached_tokens + excluded.cached_tokens, \
               completion_tokens = completion_tokens + excluded.completion_tokens";
    tx.prepare_cached(sql)?.execute(params![
        day,
        model,
        ended(entry.outcome == Outcome::Completed),
        ended(entry.outcome == Outcome::Cancelled),
        ended(matches!(entry.outcome, Outcome::Failed(_))),
        entry.prompt_tokens as i64,
        entry.cached_tokens as i64,
        entry.completion_tokens as i64,
    ])?;
    let whole = (entry.outcome == Outcome::Completed).then_some(entry.duration_ms);
    for (kind, ms) in [(FIRST_TOKEN, entry.first_token_ms), (DURATION, whole)] {
        let Some(ms) = ms else { continue };
        let sql = "INSERT INTO times VALUES (?1, ?2, ?3, ?4, 1) ON CONFLICT DO UPDATE SET count = count + 1";
        tx.prepare_cached(sql)?.execute((day, model, kind, bucket(ms)))?;
    }
    if let Outcome::Failed(code) = &entry.outcome {
        let sql = "INSERT INTO errors VALUES (?1, ?2, ?3, 1) ON CONFLICT DO UPDATE SET count = count + 1";
        tx.prepare_cached(sql)?.execute((day, model, code))?;
    }
    Ok(())
}

fn model_id(tx: &Transaction<'_>, name: &str) -> Result<i64, UsageError> {
    let find = "SELECT id FROM models WHERE name = ?1";
    let known = tx.prepare_cached(find)?.query_row([name], |row| row.get(0)).optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    tx.prepare_cached("INSERT INTO models(name) VALUES (?1)")?.execute([name])?;
    Ok(tx.last_insert_rowid())
}

fn forget_before(tx: &Transaction<'_>, first: i64) -> Result<(), UsageError> {
    for table in ["days", "times", "errors"] {
        tx.execute(&format!("DELETE FROM {table} WHERE day < ?1"), [first])?;
    }
    Ok(())
}

fn used_bytes(connection: &Connection) -> Result<i64, UsageError> {
    let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan;

    #[test]
    fn a_file_that_has_grown_too_large_loses_its_oldest_days() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        for ago in 0..200 {
            let entries = (0..50).map(|i| Entry {
                day: today() - i64::from(ago).days(),
                model: "a".to_owned(),
                outcome: Outcome::Completed,
                prompt_tokens: 1,
                cached_tokens: 0,
                completion_tokens: 1,
                first_token_ms: Some(i * 97),
                duration_ms: i * 531,
            });
            ledger.add(&entries.collect::<Vec<_>>()).unwrap();
        }
        ledger.max_bytes = 100 << 10;
        assert!(used_bytes(ledger.connection()).unwrap() > 2 * ledger.max_bytes);
        ledger.forget(400).unwrap();
        let used = used_bytes(ledger.connection()).unwrap();
        assert!((ledger.max_bytes / 2..=ledger.max_bytes).contains(&used), "{used} bytes");
        let (first, days): (i64, i64) = ledger
            .connection()
            .query_row("SELECT min(day), count(*) FROM days", [], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap();
        assert_eq!(date(first + days - 1), today(), "the newest days stay");
    }
}
