//! Rows of `messages` and `bodies`: added, read, changed while an answer is being written.

use perch_protocol::conversations::{ConversationMessage, MessageState};
use perch_protocol::openai::{Content, Role};
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::StoreError;
use crate::{blobs, check, search};

/// Adds a message to the conversation with this `seq` and id. Its parent must be there. Returns its `seq`.
pub(crate) fn insert(
    connection: &Connection,
    (conversation, conversation_id): (i64, &str),
    message: &ConversationMessage,
) -> Result<i64, StoreError> {
    let parent =
        message.parent.as_deref().map(|parent| seq_of(connection, conversation, parent)).transpose()?;
    let sql = "INSERT INTO messages(id, conversation, parent, role, running) VALUES (?1, ?2, ?3, ?4, ?5)";
    let running = message.state == MessageState::Running;
    let added = connection.prepare_cached(sql)?.execute(params![
        message.id,
        conversation,
        parent,
        role_name(message.role),
        running
    ]);
    if let Err(rusqlite::Error::SqliteFailure(error, _)) = &added
        && error.code == rusqlite::ErrorCode::ConstraintViolation
    {
        let message = format!("the message `{}` is there already; import with copy=true", message.id);
        return Err(StoreError::Conflict(message));
    }
    added?;
    let seq = connection.last_insert_rowid();
    let body = serde_json::to_string(message)?;
    let sql = "INSERT INTO bodies(seq, conversation, body, crc, text) VALUES (?1, ?2, ?3, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![
        seq,
        conversation_id,
        body,
        check::crc(conversation_id, &body),
        searched(message)
    ])?;
    for hash in blobs::hashes(&message.content) {
        let sql = "INSERT OR IGNORE INTO message_blobs(seq, hash) VALUES (?1, ?2)";
        connection.prepare_cached(sql)?.execute((seq, hash))?;
    }
    let sql = "UPDATE conversations SET message_count = message_count + 1 WHERE seq = ?1";
    connection.prepare_cached(sql)?.execute([conversation])?;
    Ok(seq)
}

/// Writes an answer anew: what there is of it so far, or all. Whether it is still there.
pub(crate) fn rewrite(
    connection: &Connection,
    conversation: &str,
    message: &ConversationMessage,
) -> Result<bool, StoreError> {
    let body = serde_json::to_string(message)?;
    let running = message.state == MessageState::Running;
    let sql = "UPDATE messages SET running = ?2 WHERE id = ?1 RETURNING seq";
    let seq: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row(params![message.id, running], |row| row.get(0))
        .optional()?;
    let Some(seq) = seq else { return Ok(false) };
    let crc = check::crc(conversation, &body);
    if running {
        // The search takes it in once, when it is whole.
        let sql = "UPDATE bodies SET body = ?2, crc = ?3 WHERE seq = ?1";
        connection.prepare_cached(sql)?.execute(params![seq, body, crc])?;
    } else {
        let sql = "UPDATE bodies SET body = ?2, crc = ?3, text = ?4 WHERE seq = ?1";
        connection.prepare_cached(sql)?.execute(params![seq, body, crc, searched(message)])?;
    }
    Ok(true)
}

/// Answers that were being written when the process ended are marked so.
pub(crate) fn settle(connection: &Connection) -> Result<usize, StoreError> {
    let sql = "SELECT bodies.conversation, bodies.body FROM messages JOIN bodies USING (seq) WHERE messages.running";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let running: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
    for (conversation, body) in &running {
        let mut message: ConversationMessage = serde_json::from_str(body)?;
        message.state = settled(message.state);
        rewrite(connection, conversation, &message)?;
    }
    Ok(running.len())
}

/// What a state is once nobody writes any more.
pub(crate) fn settled(state: MessageState) -> MessageState {
    if state == MessageState::Running { MessageState::Interrupted } else { state }
}

/// The message with this `seq`.
pub(crate) fn get(connection: &Connection, seq: i64) -> Result<ConversationMessage, StoreError> {
    let mut statement = connection.prepare_cached("SELECT body FROM bodies WHERE seq = ?1")?;
    let body: String = statement.query_row([seq], |row| row.get(0))?;
    Ok(serde_json::from_str(&body)?)
}

/// The `seq` of a message of this conversation.
pub(crate) fn seq_of(connection: &Connection, conversation: i64, id: &str) -> Result<i64, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT seq FROM messages WHERE id = ?1 AND conversation = ?2")?;
    let seq = statement.query_row((id, conversation), |row| row.get(0)).optional()?;
    seq.ok_or_else(|| StoreError::not_found("message", id))
}

/// The id of a message.
pub(crate) fn id_of(connection: &Connection, seq: i64) -> Result<Option<String>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT id FROM messages WHERE seq = ?1")?;
    Ok(statement.query_row([seq], |row| row.get(0)).optional()?)
}

/// The branch that ends with the message `last`, first message first.
pub(crate) fn path(connection: &Connection, last: i64) -> Result<Vec<ConversationMessage>, StoreError> {
    let sql = "WITH RECURSIVE path(seq, parent) AS (
                   SELECT seq, parent FROM messages WHERE seq = ?1
                   UNION ALL
                   SELECT messages.seq, messages.parent FROM messages JOIN path ON messages.seq = path.parent
               ) SELECT body FROM path JOIN bodies USING (seq) ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([last], |row| row.get::<_, String>(0))?;
    rows.map(|body| Ok(serde_json::from_str(&body?)?)).collect()
}

/// Messages of a conversation in the order in which they were stored: the newest `limit` of those before `before`; and
/// whether there are older ones.
pub(crate) fn page(
    connection: &Connection,
    conversation: i64,
    before: Option<i64>,
    limit: Option<u32>,
) -> Result<(Vec<ConversationMessage>, bool), StoreError> {
    let sql = "SELECT bodies.body FROM messages JOIN bodies USING (seq)
               WHERE messages.conversation = ?1 AND messages.seq < ?2 ORDER BY messages.seq DESC LIMIT ?3";
    let most = limit.map_or(-1, |limit| i64::from(limit) + 1);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement
        .query_map(params![conversation, before.unwrap_or(i64::MAX), most], |row| row.get::<_, String>(0))?;
    let mut messages: Vec<ConversationMessage> =
        rows.map(|body| Ok::<_, StoreError>(serde_json::from_str(&body?)?)).collect::<Result<_, _>>()?;
    let more = limit.is_some_and(|limit| messages.len() > limit as usize);
    if more {
        messages.pop();
    }
    messages.reverse();
    Ok((messages, more))
}

/// What a search looks through.
fn searched(message: &ConversationMessage) -> String {
    if message.state == MessageState::Running {
        String::new()
    } else {
        search::split(&plain(&message.content))
    }
}

/// The text of a content.
pub(crate) fn plain(content: &Content) -> String {
    match content {
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.text.as_deref()).collect();
            texts.join("\n")
        }
    }
}

pub(crate) fn role_name(role: Role) -> &'static str {
    match role {
        Role::System | Role::Developer => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// The role of that name.
pub(crate) fn role_of(name: &str) -> Option<Role> {
    [Role::System, Role::User, Role::Assistant, Role::Tool].into_iter().find(|role| role_name(*role) == name)
}
