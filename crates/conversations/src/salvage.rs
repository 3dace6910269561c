//! Reads what can be read of a damaged file into a new one.
//!
//! Works on a copy. Each message is stored whole, with its conversation, in `bodies`; where the index, the search or a
//! conversation's row is lost, that is enough, and where no way leads to a message any more, its page is. A beginning that is lost is taken from a new file: the tables were made in
//! the same order there, and lie at the same pages.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use perch_protocol::conversations::{Conversation, ConversationMessage, MessageState};
use perch_sqlite::beside;
use rusqlite::{Connection, Row};

use crate::error::StoreError;
use crate::id::{is_id, now};
use crate::{blobs, conversations, messages, raw, schema, title};

/// Rows that are probed one by one in the damaged parts of a table.
const PROBES: i64 = 1_000_000;
/// Bytes of SQLite's file header.
const HEADER: usize = 100;

/// What was saved.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    pub(crate) conversations: u64,
    pub(crate) messages: u64,
}

/// Makes a new file at `to` with what can be read of the one at `from`, which stays as it is.
pub(crate) fn salvage(from: &Path, to: &Path) -> Result<Saved, StoreError> {
    perch_sqlite::private(to).map_err(|error| unusable(from, &error))?;
    let mut new = Connection::open(to)?;
    perch_sqlite::migrate(&mut new, schema::STEPS)?;
    let fresh = fs::read(to).map_err(|error| unusable(from, &error))?;
    let copy = beside(from, "copy");
    let mut found = Found::default();
    for attempt in [Beginning::AsItIs, Beginning::NewHeader, Beginning::NewPage] {
        if !copied(from, &copy, &fresh, attempt).map_err(|error| unusable(from, &error))? {
            continue;
        }
        // A file that cannot be read this way may be readable another way.
        match Connection::open(&copy).map_err(StoreError::from).and_then(|old| read(&old)) {
            Ok(read) if !read.messages.is_empty() => {
                found = read;
                break;
            }
            Ok(read) => found = read,
            Err(error) => tracing::debug!(%error, "a way to read the damaged file failed"),
        }
    }
    found.complete(&fs::read(&copy).unwrap_or_default());
    let saved = write(&mut new, found)?;
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut path = copy.clone().into_os_string();
        path.push(end);
        let _ = fs::remove_file(path);
    }
    new.close().map_err(|(_, error)| error)?;
    Ok(saved)
}

fn unusable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unusable {
        path: path.to_owned(),
        reason: format!("it is damaged, and saving it failed: {error}"),
    }
}

/// What to do about the beginning of the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    AsItIs,
    NewHeader,
    NewPage,
}

/// Copies the damaged file and its log. Whether there is anything to read.
fn copied(from: &Path, to: &Path, fresh: &[u8], beginning: Beginning) -> std::io::Result<bool> {
    let mut bytes = match fs::read(from) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let _ = fs::remove_file(beside(to, "shm"));
    let log = fs::read(beside(from, "wal")).unwrap_or_default();
    if bytes.len() < HEADER && log.is_empty() {
        return Ok(false);
    }
    let page = u16::from_be_bytes([fresh[16], fresh[17]]) as usize;
    let new = match beginning {
        Beginning::AsItIs => 0,
        Beginning::NewHeader => HEADER,
        Beginning::NewPage => page,
    };
    if new > 0 {
        bytes.resize(bytes.len().max(page), 0);
        bytes[..new].copy_from_slice(&fresh[..new]);
        let journal = if log.is_empty() { 1 } else { 2 };
        bytes[18..20].fill(journal);
        let pages = (bytes.len() / page) as u32;
        bytes[28..32].copy_from_slice(&pages.to_be_bytes());
        // Nothing is known of free pages.
        bytes[32..40].fill(0);
        let counter: [u8; 4] = [bytes[24], bytes[25], bytes[26], bytes[27]];
        bytes[92..96].copy_from_slice(&counter);
    }
    fs::write(to, bytes)?;
    fs::write(beside(to, "wal"), log)?;
    Ok(true)
}

/// What was read.
#[derive(Default)]
struct Found {
    /// By id, with the `seq` of their heads.
    conversations: Vec<(Conversation, Option<i64>)>,
    /// In order, with the ids of their conversations.
    messages: Vec<(i64, String, ConversationMessage)>,
    blobs: Vec<(String, String, Vec<u8>)>,
    settings: Vec<(String, String)>,
}

impl Found {
    /// Adds the messages to which no way leads any more.
    fn complete(&mut self, file: &[u8]) {
        let known: HashSet<i64> = self.messages.iter().map(|(seq, ..)| *seq).collect();
        for (seq, conversation, body) in raw::bodies(file) {
            if let (false, Ok(message)) = (known.contains(&seq), serde_json::from_str(&body)) {
                self.messages.push((seq, conversation, message));
            }
        }
        self.messages.sort_by_key(|(seq, ..)| *seq);
    }
}

fn read(old: &Connection) -> Result<Found, StoreError> {
    // The log goes into the copy, so that all pages lie in one file.
    let _ = old.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    let mut found = Found::default();
    // Fails where even the list of tables is lost.
    old.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'bodies'", [], |row| row.get::<_, i64>(0))
        .map_err(StoreError::from)
        .and_then(|count| {
            (count == 1).then_some(()).ok_or_else(|| StoreError::Damaged("no tables".into()))
        })?;
    each(old, "conversations", conversations::COLUMNS, |row| {
        if let Ok(read) = conversations::from_row(row) {
            found.conversations.push(read);
        }
    });
    each(old, "bodies", "seq, conversation, body", |row| {
        let read =
            || -> rusqlite::Result<(i64, String, String)> { Ok((row.get(0)?, row.get(1)?, row.get(2)?)) };
        if let Ok((seq, conversation, body)) = read()
            && let Ok(message) = serde_json::from_str(&body)
        {
            found.messages.push((seq, conversation, message));
        }
    });
    each(old, "blobs", "rowid, hash, media_type, bytes", |row| {
        let read = || -> rusqlite::Result<_> { Ok((row.get(1)?, row.get(2)?, row.get(3)?)) };
        found.blobs.extend(read());
    });
    let settings = old.prepare("SELECT key, value FROM settings").and_then(|mut statement| {
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()
    });
    found.settings = settings.unwrap_or_default();
    Ok(found)
}

/// Every row of a table that can be read, those behind damaged ones too.
fn each(old: &Connection, table: &str, columns: &str, mut take: impl FnMut(&Row<'_>)) {
    let key = if table == "blobs" { "rowid" } else { "seq" };
    let number = |sql: &str| old.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).ok().flatten();
    let last = number(&format!("SELECT max({key}) FROM {table}"))
        .or_else(|| number("SELECT max(seq) FROM sqlite_sequence"))
        .unwrap_or(PROBES);
    let sql = format!("SELECT {columns} FROM {table} WHERE {key} >= ?1 ORDER BY {key}");
    let (mut next, mut probes) = (0, 0);
    while next <= last && probes < PROBES {
        let mut seen = next - 1;
        let Ok(mut statement) = old.prepare_cached(&sql) else { return };
        let scanned = statement.query([next]).and_then(|mut rows| {
            while let Some(row) = rows.next()? {
                seen = row.get(0).unwrap_or(seen + 1);
                take(row);
            }
            Ok(())
        });
        if scanned.is_ok() {
            return;
        }
        next = seen.max(next - 1) + 2;
        probes += 1;
    }
}

fn write(new: &mut Connection, found: Found) -> Result<Saved, StoreError> {
    let mut saved = Saved::default();
    let tx = new.transaction()?;
    for (key, value) in &found.settings {
        tx.execute("INSERT OR REPLACE INTO settings(key, value) VALUES (?1, ?2)", (key, value))?;
    }
    for (hash, media_type, bytes) in &found.blobs {
        blobs::keep(&tx, hash, media_type, bytes)?;
    }
    let mut rows = HashMap::new();
    let mut heads = HashMap::new();
    for (conversation, head) in found.conversations {
        if is_id(&conversation.id) && !rows.contains_key(&conversation.id) {
            heads.insert(conversation.id.clone(), head);
            rows.insert(conversation.id.clone(), conversations::insert(&tx, &conversation)?);
            saved.conversations += 1;
        }
    }
    // Each message with its conversation.
    let mut ids: HashMap<String, String> = HashMap::new();
    let mut last: HashMap<String, String> = HashMap::new();
    for (seq, mut conversation, mut message) in found.messages {
        if !is_id(&message.id) || ids.contains_key(&message.id) {
            continue;
        }
        if !rows.contains_key(&conversation)
            && let Some(parents) = message.parent.as_ref().and_then(|parent| ids.get(parent))
        {
            // What it says of its conversation is what was hit.
            conversation.clone_from(parents);
        }
        if !is_id(&conversation) {
            continue;
        }
        if !rows.contains_key(&conversation) {
            // Its row is lost: it is made anew around its messages.
            let text = messages::plain(&message.content);
            let (created_at, updated_at) = (message.created_at, now());
            let title = title::title_from(&text);
            let made = Conversation {
                id: conversation.clone(),
                title,
                created_at,
                updated_at,
                ..Conversation::default()
            };
            rows.insert(conversation.clone(), conversations::insert(&tx, &made)?);
            saved.conversations += 1;
        }
        if message.parent.as_ref().is_some_and(|parent| ids.get(parent) != Some(&conversation)) {
            message.parent = last.get(&conversation).cloned();
        }
        if message.state == MessageState::Running {
            message.state = MessageState::Interrupted;
        }
        let row = rows[&conversation];
        let new_seq = messages::insert(&tx, (row, &conversation), &message)?;
        saved.messages += 1;
        ids.insert(message.id.clone(), conversation.clone());
        let wanted = heads.get(&conversation).copied().flatten();
        if wanted.is_none_or(|wanted| wanted >= seq) {
            conversations::set_head(&tx, row, Some(new_seq))?;
        }
        last.insert(conversation, message.id);
    }
    tx.commit()?;
    Ok(saved)
}
