//! What a ledger says: sums over days, models, or each model's days.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Span as Time;
use jiff::civil::Date;
use perch_protocol::{UsageBy, UsageErased, UsageReport, UsageRow};
use rusqlite::{Connection, params};

use crate::entry::today;
use crate::error::UsageError;
use crate::file::{damaged_files, file_bytes};
use crate::histogram::percentiles;
use crate::ledger::{DURATION, FIRST_TOKEN, Ledger, date, number};

/// Which days are asked about, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub from: Date,
    /// The last.
    pub to: Date,
}

impl Span {
    /// So many days, of which the last is today.
    pub fn last(days: u32) -> Self {
        let to = today();
        let back = Time::new().try_days(i64::from(days.max(1)) - 1);
        Self { from: back.ok().and_then(|back| to.checked_sub(back).ok()).unwrap_or(Date::MIN), to }
    }

    /// All that there may be, also from when the clock was wrong.
    pub fn all() -> Self {
        Self { from: Date::MIN, to: Date::MAX }
    }
}

/// The report on `folder`, given what its ledger says, or why it says nothing. Whether requests are counted is left to be
/// filled in.
pub fn told(folder: &Path, said: Result<Option<UsageReport>, UsageError>, days: u32) -> UsageReport {
    let Span { from, to } = Span::last(days);
    let nothing = || UsageReport { from: from.to_string(), to: to.to_string(), ..UsageReport::default() };
    let (report, problem) = match said {
        Ok(report) => (report, None),
        Err(error) => (None, Some(error.to_string())),
    };
    UsageReport {
        file_bytes: file_bytes(folder),
        problem,
        damaged_files: damaged_files(folder).iter().map(|path| path.display().to_string()).collect(),
        ..report.unwrap_or_else(nothing)
    }
}

/// What the rows of an answer stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    All,
    Day,
    Model,
    DayAndModel,
}

/// A day and a model, zero where they are added up.
type Key = (i64, i64);

impl Ledger {
    /// What it knows of so many days, today included.
    ///
    /// # Errors
    /// What the database says.
    pub fn report(&self, days: u32, by: UsageBy, model: Option<&str>) -> Result<UsageReport, UsageError> {
        let span = Span::last(days);
        Ok(UsageReport {
            from: span.from.to_string(),
            to: span.to.to_string(),
            since: self.since()?.map(|day| day.to_string()),
            total: self.total(span, model)?,
            rows: self.rows(span, by, model)?,
            ..UsageReport::default()
        })
    }

    /// Rows by day (oldest first) or by model (most requests first); of one model only, if it is named.
    ///
    /// # Errors
    /// What the database says.
    pub fn rows(&self, span: Span, by: UsageBy, model: Option<&str>) -> Result<Vec<UsageRow>, UsageError> {
        let per = match by {
            UsageBy::Day => Per::Day,
            UsageBy::Model => Per::Model,
        };
        let mut rows = self.read(span, per, model)?;
        if by == UsageBy::Model {
            rows.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.model.cmp(&b.model)));
        }
        Ok(rows)
    }

    /// A row for each model on each day.
    ///
    /// # Errors
    /// What the database says.
    pub fn days_of_models(&self, span: Span) -> Result<Vec<UsageRow>, UsageError> {
        self.read(span, Per::DayAndModel, None)
    }

    /// All added up.
    ///
    /// # Errors
    /// What the database says.
    pub fn total(&self, span: Span, model: Option<&str>) -> Result<UsageRow, UsageError> {
        Ok(self.read(span, Per::All, model)?.pop().unwrap_or_default())
    }

    /// The first day that anything is known of.
    ///
    /// # Errors
    /// What the database says.
    pub fn since(&self) -> Result<Option<Date>, UsageError> {
        let first: Option<i64> =
            self.connection().query_row("SELECT min(day) FROM days", [], |row| row.get(0))?;
        Ok(first.map(date))
    }

    /// How much there is to erase.
    ///
    /// # Errors
    /// What the database says.
    pub(crate) fn extent(&self) -> Result<UsageErased, UsageError> {
        let sql = "SELECT coalesce(sum(completed + cancelled + failed), 0), count(DISTINCT day) FROM days";
        let extent =
            |row: &rusqlite::Row<'_>| Ok(UsageErased { requests: count(row, 0)?, days: count(row, 1)? });
        Ok(self.connection().query_row(sql, [], extent)?)
    }

    fn read(&self, span: Span, per: Per, model: Option<&str>) -> Result<Vec<UsageRow>, UsageError> {
        // One transaction: what is read belongs together.
        let tx = self.connection().unchecked_transaction()?;
        let names = names(&tx)?;
        let asked = Asked { connection: &tx, per, span, model };
        let mut rows: BTreeMap<Key, UsageRow> = BTreeMap::new();
        let sums = "sum(completed), sum(cancelled), sum(failed), sum(prompt_tokens), sum(cached_tokens), \
                    sum(completion_tokens)";
        asked.each(sums, "days", "1, 2", |key, row| {
            let (completed, cancelled, failed) = (count(row, 2)?, count(row, 3)?, count(row, 4)?);
            let (day, model) = key;
            let sums = UsageRow {
                day: matches!(per, Per::Day | Per::DayAndModel).then(|| date(day).to_string()),
                model: matches!(per, Per::Model | Per::DayAndModel)
                    .then(|| names.get(&model).cloned().unwrap_or_default()),
                requests: completed + cancelled + failed,
                completed,
                cancelled,
                failed,
                prompt_tokens: count(row, 5)?,
                cached_tokens: count(row, 6)?,
                completion_tokens: count(row, 7)?,
                ..UsageRow::default()
            };
            rows.insert(key, sums);
            Ok(())
        })?;
        asked.each("code, sum(count)", "errors", "1, 2, 3", |key, row| {
            let (code, count) = (row.get(2)?, count(row, 3)?);
            rows.get_mut(&key).map(|found| found.errors.insert(code, count));
            Ok(())
        })?;
        for kind in [FIRST_TOKEN, DURATION] {
            let mut times: BTreeMap<Key, Vec<(u32, u64)>> = BTreeMap::new();
            let table = format!("(SELECT * FROM times WHERE kind = {kind})");
            asked.each("bucket, sum(count)", &table, "1, 2, 3", |key, row| {
                times.entry(key).or_default().push((row.get(2)?, count(row, 3)?));
                Ok(())
            })?;
            for (key, times) in times {
                let Some(row) = rows.get_mut(&key) else { continue };
                let found = percentiles(&times);
                if kind == FIRST_TOKEN { row.first_token_ms = found } else { row.duration_ms = found }
            }
        }
        Ok(rows.into_values().collect())
    }
}

/// One question, put to each table.
struct Asked<'a> {
    connection: &'a Connection,
    per: Per,
    span: Span,
    model: Option<&'a str>,
}

impl Asked<'_> {
    /// Calls `take` with each group of `table`, in order. The columns that groups are told apart by are numbered: the day,
    /// the model and those asked for; what is added up is multiplied by zero.
    fn each(
        &self,
        columns: &str,
        table: &str,
        groups: &str,
        mut take: impl FnMut(Key, &rusqlite::Row<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), UsageError> {
        let sql = format!(
            "SELECT day * ?4, model * ?5, {columns} FROM {table} WHERE day BETWEEN ?1 AND ?2 \
             AND (?3 IS NULL OR model = (SELECT id FROM models WHERE name = ?3)) \
             GROUP BY {groups} ORDER BY {groups}"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let (from, to) = (number(self.span.from), number(self.span.to));
        let by_day = matches!(self.per, Per::Day | Per::DayAndModel);
        let by_model = matches!(self.per, Per::Model | Per::DayAndModel);
        let mut rows = statement.query(params![from, to, self.model, by_day, by_model])?;
        while let Some(row) = rows.next()? {
            take((row.get(0)?, row.get(1)?), row)?;
        }
        Ok(())
    }
}

/// A count, which is never below zero.
fn count(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(at)?.max(0).cast_unsigned())
}

fn names(connection: &Connection) -> Result<BTreeMap<i64, String>, UsageError> {
    let mut statement = connection.prepare_cached("SELECT id, name FROM models")?;
    let names = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(names.collect::<Result<_, _>>()?)
}
