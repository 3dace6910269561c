//! Rows of `conversations`: made, read, changed, deleted, forked.

use perch_protocol::conversations::{Conversation, ConversationPatch, NewConversation};
use perch_protocol::openai::Role;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::StoreError;
use crate::id::{new_id, now};
use crate::title::{NEW_TITLE, title_from};
use crate::{blobs, messages, search, validate};

/// The columns that [`from_row`] reads.
pub(crate) const COLUMNS: &str = "seq, id, title, auto_title, model, system_prompt, sampling, pinned, created_at, \
     updated_at, message_count, head";

/// A conversation and the `seq` of its head, whose id is left to be filled in.
pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<(Conversation, Option<i64>)> {
    let sampling: String = row.get(6)?;
    let conversation = Conversation {
        id: row.get(1)?,
        title: row.get(2)?,
        auto_title: row.get(3)?,
        model: row.get(4)?,
        system_prompt: row.get(5)?,
        sampling: serde_json::from_str(&sampling).unwrap_or_default(),
        pinned: row.get(7)?,
        created_at: row.get::<_, i64>(8)?.max(0) as u64,
        updated_at: row.get::<_, i64>(9)?.max(0) as u64,
        message_count: row.get::<_, i64>(10)?.max(0) as u64,
        head: None,
        found: None,
    };
    Ok((conversation, row.get(11)?))
}

/// The conversation called `id`, and its `seq`.
pub(crate) fn get(connection: &Connection, id: &str) -> Result<(i64, Conversation), StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM conversations WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([id], |row| Ok((row.get(0)?, from_row(row)?))).optional()?;
    let (seq, (conversation, head)) = found.ok_or_else(|| StoreError::not_found("conversation", id))?;
    Ok((seq, with_head(connection, conversation, head)?))
}

/// Fills in the id of the head.
pub(crate) fn with_head(
    connection: &Connection,
    conversation: Conversation,
    head: Option<i64>,
) -> Result<Conversation, StoreError> {
    let head = head.map(|seq| messages::id_of(connection, seq)).transpose()?.flatten();
    Ok(Conversation { head, ..conversation })
}

/// Adds a row; its messages and head come later. Returns its `seq`.
pub(crate) fn insert(connection: &Connection, conversation: &Conversation) -> Result<i64, StoreError> {
    let sql = "INSERT INTO conversations(id, title, auto_title, model, system_prompt, sampling, pinned, created_at, \
               updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(sql)?.execute(params![
        conversation.id,
        conversation.title,
        conversation.auto_title,
        conversation.model,
        conversation.system_prompt,
        serde_json::to_string(&conversation.sampling)?,
        conversation.pinned,
        conversation.created_at as i64,
        conversation.updated_at as i64,
    ])?;
    let seq = connection.last_insert_rowid();
    search::index_title(connection, seq, &conversation.title)?;
    Ok(seq)
}

/// What a new conversation is before anything is said in it.
pub(crate) fn new(wanted: NewConversation) -> Result<Conversation, StoreError> {
    let given = wanted.title.filter(|title| !title.is_empty());
    let now = now();
    let conversation = Conversation {
        id: new_id(),
        auto_title: given.is_none(),
        title: given.unwrap_or_else(|| NEW_TITLE.to_owned()),
        model: wanted.model.filter(|model| !model.is_empty()),
        system_prompt: wanted.system_prompt.filter(|prompt| !prompt.is_empty()),
        sampling: wanted.sampling.unwrap_or_default(),
        pinned: wanted.pinned.unwrap_or(false),
        created_at: now,
        updated_at: now,
        ..Conversation::default()
    };
    validate::conversation(&conversation, "")?;
    Ok(conversation)
}

/// Changes what `patch` says.
pub(crate) fn patch(
    connection: &Connection,
    id: &str,
    patch: ConversationPatch,
) -> Result<Conversation, StoreError> {
    let (seq, mut conversation) = get(connection, id)?;
    match patch.title {
        Some(title) if title.is_empty() => {
            conversation.auto_title = true;
            conversation.title = first_words(connection, seq)?;
        }
        Some(title) => {
            conversation.auto_title = false;
            conversation.title = title;
        }
        None => {}
    }
    let or_none = |text: String| Some(text).filter(|text| !text.is_empty());
    if let Some(model) = patch.model {
        conversation.model = or_none(model);
    }
    if let Some(prompt) = patch.system_prompt {
        conversation.system_prompt = or_none(prompt);
    }
    conversation.sampling = patch.sampling.unwrap_or(conversation.sampling);
    conversation.pinned = patch.pinned.unwrap_or(conversation.pinned);
    validate::conversation(&conversation, "")?;
    if let Some(head) = &patch.head {
        set_head(connection, seq, Some(messages::seq_of(connection, seq, head)?))?;
    }
    let sql = "UPDATE conversations SET title = ?2, auto_title = ?3, model = ?4, system_prompt = ?5, sampling = ?6, \
               pinned = ?7, updated_at = ?8 WHERE seq = ?1";
    connection.prepare_cached(sql)?.execute(params![
        seq,
        conversation.title,
        conversation.auto_title,
        conversation.model,
        conversation.system_prompt,
        serde_json::to_string(&conversation.sampling)?,
        conversation.pinned,
        now() as i64,
    ])?;
    search::index_title(connection, seq, &conversation.title)?;
    Ok(get(connection, id)?.1)
}

/// A title from the first thing that a person said in a conversation.
fn first_words(connection: &Connection, seq: i64) -> Result<String, StoreError> {
    let sql = "SELECT seq FROM messages WHERE conversation = ?1 AND role = 'user' ORDER BY seq LIMIT 1";
    let first = connection.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()?;
    let first = first.map(|seq| messages::get(connection, seq)).transpose()?;
    Ok(first.map_or_else(|| NEW_TITLE.to_owned(), |message| title_from(&messages::plain(&message.content))))
}

/// Something was said: it is the head now, and a title that waits for the first words gets them.
pub(crate) fn grown(connection: &Connection, seq: i64, head: i64, role: Role) -> Result<(), StoreError> {
    let sql =
        "UPDATE conversations SET head = ?2, updated_at = ?3 WHERE seq = ?1 RETURNING auto_title, title";
    let (auto, title): (bool, String) = connection
        .prepare_cached(sql)?
        .query_row(params![seq, head, now() as i64], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if auto && role == Role::User && title == NEW_TITLE {
        let title = first_words(connection, seq)?;
        connection
            .prepare_cached("UPDATE conversations SET title = ?2 WHERE seq = ?1")?
            .execute((seq, &title))?;
        search::index_title(connection, seq, &title)?;
    }
    Ok(())
}

pub(crate) fn set_head(connection: &Connection, seq: i64, head: Option<i64>) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE conversations SET head = ?2 WHERE seq = ?1")?.execute((seq, head))?;
    Ok(())
}

/// Deletes a conversation with its messages.
pub(crate) fn delete(connection: &Connection, id: &str) -> Result<(), StoreError> {
    let (seq, _) = get(connection, id)?;
    connection.prepare_cached("DELETE FROM titles WHERE rowid = ?1")?.execute([seq])?;
    connection.prepare_cached("DELETE FROM conversations WHERE seq = ?1")?.execute([seq])?;
    blobs::forget_unused(connection)
}

/// Copies a conversation up to a message into a new one.
pub(crate) fn fork(
    connection: &Connection,
    id: &str,
    message_id: &str,
    title: Option<String>,
) -> Result<Conversation, StoreError> {
    let (seq, old) = get(connection, id)?;
    let last = messages::seq_of(connection, seq, message_id)?;
    let path = messages::path(connection, last)?;
    let now = now();
    let given = title.filter(|title| !title.is_empty());
    let new = Conversation {
        id: new_id(),
        auto_title: given.is_none() && old.auto_title,
        title: given.unwrap_or(old.title),
        created_at: now,
        updated_at: now,
        ..old
    };
    validate::conversation(&new, "")?;
    let new_seq = insert(connection, &new)?;
    let mut parent = None;
    for mut message in path {
        message.id = new_id();
        message.parent = parent.take();
        message.state = messages::settled(message.state);
        let at = messages::insert(connection, (new_seq, &new.id), &message)?;
        set_head(connection, new_seq, Some(at))?;
        parent = Some(message.id);
    }
    Ok(get(connection, &new.id)?.1)
}
