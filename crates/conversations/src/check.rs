//! Whether a file is sound: SQLite's own check of its structure, and a checksum of every message, which finds what has
//! changed without breaking the structure.

use rusqlite::Connection;

use crate::error::StoreError;
use crate::schema;

/// The checksum of a message as it is stored.
pub(crate) fn crc(conversation: &str, body: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(conversation.as_bytes());
    hasher.update(body.as_bytes());
    hasher.finalize()
}

/// What is wrong with the file of `connection`; `None` if nothing is.
///
/// # Errors
/// When the file cannot be read for a reason of the system's, or was written by a later version.
pub(crate) fn damage(connection: &Connection) -> Result<Option<String>, StoreError> {
    match look(connection) {
        Ok(found) => Ok(found),
        Err(StoreError::Damaged(reason)) => Ok(Some(reason)),
        Err(error) => Err(error),
    }
}

fn look(connection: &Connection) -> Result<Option<String>, StoreError> {
    let version = perch_sqlite::version(connection)?;
    if version == 0 {
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        // An empty file is one that was never begun.
        return Ok((tables > 0).then(|| "it has tables but no version".to_owned()));
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Ok(Some(verdict));
    }
    if version > schema::VERSION {
        // Whatever it is, it is not ours to set aside.
        return Ok(None);
    }
    let mut bodies = connection.prepare("SELECT seq, conversation, body, crc FROM bodies")?;
    let mut rows = bodies.query([])?;
    while let Some(row) = rows.next()? {
        let text =
            |at| row.get_ref(at).ok().and_then(|value| value.as_str().ok()).unwrap_or_default().to_owned();
        if i64::from(crc(&text(1), &text(2))) != row.get::<_, i64>(3).unwrap_or(-1) {
            let seq: i64 = row.get(0)?;
            return Ok(Some(format!("message {seq} is not what was written")));
        }
    }
    let strays: i64 = connection.query_row(
        "SELECT (SELECT count(*) FROM messages) - (SELECT count(*) FROM bodies)",
        [],
        |row| row.get(0),
    )?;
    Ok((strays != 0).then(|| "messages and their index differ".to_owned()))
}
