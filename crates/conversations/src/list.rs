//! Conversations by time and by words, page by page.
//!
//! A cursor is where a page ended, as two numbers; what changes meanwhile moves to the front and is not seen twice.

use perch_protocol::conversations::{Conversation, ConversationQuery, Found};
use rusqlite::{Connection, params};

use crate::conversations::{COLUMNS, from_row, with_head};
use crate::error::StoreError;
use crate::messages;
use crate::search;

/// Conversations on a page unless said, and at most.
const PAGE: u32 = 50;
const LONGEST_PAGE: u32 = 200;

/// A page of conversations, and where the next one begins.
type Page = (Vec<Conversation>, Option<String>);

pub(crate) fn list(connection: &Connection, wanted: &ConversationQuery) -> Result<Page, StoreError> {
    let limit = wanted.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(StoreError::invalid(
            "limit",
            format!("limit must be between 1 and {LONGEST_PAGE}, not {limit}"),
        ));
    }
    let from = wanted.cursor.as_deref().map(cursor).transpose()?.unwrap_or((i64::MAX, i64::MAX));
    match wanted.q.as_deref().filter(|q| !q.trim().is_empty()) {
        None => by_time(connection, wanted.pinned, limit, from),
        Some(q) => match search::query(q)? {
            // Punctuation alone is in every text and in none.
            None => Ok((Vec::new(), None)),
            Some(query) => by_words(connection, &query, (wanted.pinned, limit, from)),
        },
    }
}

fn cursor(text: &str) -> Result<(i64, i64), StoreError> {
    let numbers = text.split_once('-').and_then(|(time, seq)| Some((time.parse().ok()?, seq.parse().ok()?)));
    numbers.ok_or_else(|| StoreError::invalid("cursor", "cursor must be the next_cursor of the page before"))
}

/// Cuts what is one too many, and says where the next page begins.
fn cut<T>(mut rows: Vec<T>, limit: u32, key: impl Fn(&T) -> (i64, i64)) -> (Vec<T>, Option<String>) {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(key).map(|(first, second)| format!("{first}-{second}"));
    (rows, next)
}

fn by_time(
    connection: &Connection,
    pinned: Option<bool>,
    limit: u32,
    (time, seq): (i64, i64),
) -> Result<Page, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM conversations WHERE (updated_at, seq) < (?1, ?2) AND (?3 IS NULL OR pinned = ?3)
         ORDER BY updated_at DESC, seq DESC LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![time, seq, pinned, limit + 1], |row| {
        Ok((row.get::<_, i64>(0)?, from_row(row)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let (rows, next) = cut(rows, limit, |(seq, (conversation, _))| (conversation.updated_at as i64, *seq));
    let conversations =
        rows.into_iter().map(|(_, (conversation, head))| with_head(connection, conversation, head));
    Ok((conversations.collect::<Result<_, _>>()?, next))
}

fn by_words(
    connection: &Connection,
    query: &str,
    (pinned, limit, (newest, seq)): (Option<bool>, u32, (i64, i64)),
) -> Result<Page, StoreError> {
    // A conversation whose title alone has the words stands where its oldest message would.
    let sql = format!(
        "WITH hits(conversation, newest, count) AS (
             SELECT messages.conversation, max(messages.seq), count(*)
             FROM search JOIN messages ON messages.seq = search.rowid
             WHERE search MATCH ?1 GROUP BY messages.conversation
         ), both(conversation, newest, count) AS (
             SELECT * FROM hits
             UNION ALL
             SELECT rowid, 0, 0 FROM titles
             WHERE titles MATCH ?1 AND rowid NOT IN (SELECT conversation FROM hits)
         )
         SELECT {COLUMNS}, both.newest, both.count FROM both JOIN conversations ON conversations.seq = both.conversation
         WHERE (both.newest, both.conversation) < (?2, ?3) AND (?4 IS NULL OR pinned = ?4)
         ORDER BY both.newest DESC, both.conversation DESC LIMIT ?5"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![query, newest, seq, pinned, limit + 1], |row| {
        Ok((row.get::<_, i64>(0)?, from_row(row)?, row.get::<_, i64>(12)?, row.get::<_, i64>(13)?))
    })?;
    let rows: Vec<_> = rows.collect::<Result<_, _>>()?;
    let (rows, next) = cut(rows, limit, |(seq, _, newest, _)| (*newest, *seq));
    let mut conversations = Vec::with_capacity(rows.len());
    for (seq, (conversation, head), newest, count) in rows {
        let mut conversation = with_head(connection, conversation, head)?;
        conversation.found = Some(found(connection, query, (seq, newest, count))?);
        conversations.push(conversation);
    }
    Ok((conversations, next))
}

fn found(
    connection: &Connection,
    query: &str,
    (seq, newest, count): (i64, i64, i64),
) -> Result<Found, StoreError> {
    if newest == 0 {
        let snippet = search::snippet(connection, "titles", query, seq)?;
        return Ok(Found { messages: 0, message_id: None, role: None, snippet });
    }
    let mut statement = connection.prepare_cached("SELECT id, role FROM messages WHERE seq = ?1")?;
    let (id, role): (String, String) = statement.query_row([newest], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Found {
        messages: count.max(0) as u64,
        message_id: Some(id),
        role: messages::role_of(&role),
        snippet: search::snippet(connection, "search", query, newest)?,
    })
}
