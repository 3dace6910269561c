//! Rows as files: CSV and Parquet, the same columns in both.
//!
//! `day, model, requests, completed, cancelled, failed, prompt_tokens, cached_tokens, completion_tokens`, then
//! `first_token_p50_ms`, `…_p95_ms`, `…_p99_ms` and `duration_p50_ms`, `…_p95_ms`, `…_p99_ms` (empty where nothing was
//! measured), and `errors`, a JSON object of counts by code.

use std::sync::Arc;

use jiff::civil::Date;
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use perch_protocol::{Percentiles, UsageRow};

use crate::error::UsageError;
use crate::ledger::number;

/// A column of numbers; `None` where nothing was measured.
type Numbers = (&'static str, fn(&UsageRow) -> Option<u64>);

const COUNTS: [Numbers; 7] = [
    ("requests", |row| Some(row.requests)),
    ("completed", |row| Some(row.completed)),
    ("cancelled", |row| Some(row.cancelled)),
    ("failed", |row| Some(row.failed)),
    ("prompt_tokens", |row| Some(row.prompt_tokens)),
    ("cached_tokens", |row| Some(row.cached_tokens)),
    ("completion_tokens", |row| Some(row.completion_tokens)),
];

const TIMES: [Numbers; 6] = [
    ("first_token_p50_ms", |row| row.first_token_ms.map(|Percentiles { p50, .. }| p50)),
    ("first_token_p95_ms", |row| row.first_token_ms.map(|Percentiles { p95, .. }| p95)),
    ("first_token_p99_ms", |row| row.first_token_ms.map(|Percentiles { p99, .. }| p99)),
    ("duration_p50_ms", |row| row.duration_ms.map(|Percentiles { p50, .. }| p50)),
    ("duration_p95_ms", |row| row.duration_ms.map(|Percentiles { p95, .. }| p95)),
    ("duration_p99_ms", |row| row.duration_ms.map(|Percentiles { p99, .. }| p99)),
];

/// The rows as CSV (RFC 4180) with a heading, in UTF-8.
///
/// # Errors
/// None that are known: it is written to memory.
pub fn csv(rows: &[UsageRow]) -> Result<Vec<u8>, UsageError> {
    let failed = |error: csv::Error| UsageError::Database(format!("the export failed: {error}"));
    let mut out = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let numbers = || COUNTS.iter().chain(&TIMES);
    let heading = ["day", "model"].into_iter().chain(numbers().map(|(name, _)| *name)).chain(["errors"]);
    out.write_record(heading).map_err(failed)?;
    for row in rows {
        let cells = numbers().map(|(_, read)| read(row).map(|n| n.to_string()).unwrap_or_default());
        let names = [row.day.clone().unwrap_or_default(), row.model.clone().unwrap_or_default()];
        out.write_record(names.into_iter().chain(cells).chain([errors(row)])).map_err(failed)?;
    }
    out.into_inner().map_err(|error| failed(error.into_error().into()))
}

/// The rows as a Parquet file of one row group, uncompressed: `day` is a date, counts and milliseconds are `INT64`.
///
/// # Errors
/// None that are known: it is written to memory.
pub fn parquet(rows: &[UsageRow]) -> Result<Vec<u8>, UsageError> {
    write(rows).map_err(|error| UsageError::Database(format!("the export failed: {error}")))
}

fn write(rows: &[UsageRow]) -> Result<Vec<u8>, ParquetError> {
    let created = format!("Perch {}", env!("CARGO_PKG_VERSION"));
    let properties = Arc::new(WriterProperties::builder().set_created_by(created).build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema()?, properties)?;
    let mut group = writer.next_row_group()?;
    let days = rows.iter().map(|row| {
        let day: Option<Date> = row.day.as_deref().and_then(|day| day.parse().ok());
        day.and_then(|day| i32::try_from(number(day)).ok()).unwrap_or_default()
    });
    let days: Vec<i32> = days.collect();
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<Int32Type>().write_batch(&days, None, None)?;
    column.close()?;
    texts(&mut group, rows.iter().map(|row| row.model.clone().unwrap_or_default()))?;
    for (_, read) in COUNTS {
        let values: Vec<i64> = rows.iter().filter_map(read).map(u64::cast_signed).collect();
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<Int64Type>().write_batch(&values, None, None)?;
        column.close()?;
    }
    for (_, read) in TIMES {
        let values: Vec<i64> = rows.iter().filter_map(read).map(u64::cast_signed).collect();
        let there: Vec<i16> = rows.iter().map(|row| i16::from(read(row).is_some())).collect();
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<Int64Type>().write_batch(&values, Some(&there), None)?;
        column.close()?;
    }
    texts(&mut group, rows.iter().map(errors))?;
    group.close()?;
    writer.into_inner()
}

fn schema() -> Result<TypePtr, ParquetError> {
    let field = |name: &str, physical: Physical, logical: Option<LogicalType>, repetition: Repetition| {
        let field = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        field.with_logical_type(logical).build().map(Arc::new)
    };
    let text =
        |name: &str| field(name, Physical::BYTE_ARRAY, Some(LogicalType::String), Repetition::REQUIRED);
    let mut fields =
        vec![field("day", Physical::INT32, Some(LogicalType::Date), Repetition::REQUIRED)?, text("model")?];
    for (columns, repetition) in [(&COUNTS[..], Repetition::REQUIRED), (&TIMES[..], Repetition::OPTIONAL)] {
        for (name, _) in columns {
            fields.push(field(name, Physical::INT64, None, repetition)?);
        }
    }
    fields.push(text("errors")?);
    Type::group_type_builder("usage").with_fields(fields).build().map(Arc::new)
}

fn texts(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = String>,
) -> Result<(), ParquetError> {
    let values: Vec<ByteArray> = values.map(|text| ByteArray::from(text.into_bytes())).collect();
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
    column.close()
}

fn missing() -> ParquetError {
    ParquetError::General("the schema has too few columns".to_owned())
}

fn errors(row: &UsageRow) -> String {
    serde_json::to_string(&row.errors).unwrap_or_default()
}
