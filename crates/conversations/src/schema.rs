//! The tables, and how a connection is set up.
//!
//! `bodies` holds each message whole, as JSON with its conversation and a checksum; `messages` is its index and can be
//! made anew from it. `search` and `titles` are full-text indexes. Invariants: a message's `seq` is above its parent's, so
//! there are no circles; `bodies.text` is what is searched, empty while an answer is being written.

use rusqlite::Connection;

use crate::error::StoreError;

/// One step for each version of the file: `user_version` counts those that were taken.
pub(crate) const STEPS: &[&str] = &["
CREATE TABLE conversations(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    auto_title INTEGER NOT NULL,
    model TEXT,
    system_prompt TEXT,
    sampling TEXT NOT NULL,
    pinned INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    message_count INTEGER NOT NULL DEFAULT 0,
    head INTEGER
);
CREATE INDEX conversations_by_time ON conversations(updated_at, seq);

CREATE TABLE messages(
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    conversation INTEGER NOT NULL REFERENCES conversations(seq) ON DELETE CASCADE,
    parent INTEGER,
    role TEXT NOT NULL,
    running INTEGER NOT NULL
);
CREATE INDEX messages_by_conversation ON messages(conversation, seq);
CREATE INDEX messages_running ON messages(seq) WHERE running;

CREATE TABLE bodies(
    seq INTEGER PRIMARY KEY REFERENCES messages(seq) ON DELETE CASCADE,
    conversation TEXT NOT NULL,
    body TEXT NOT NULL,
    crc INTEGER NOT NULL,
    text TEXT NOT NULL
);

CREATE TABLE blobs(hash TEXT PRIMARY KEY, media_type TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE message_blobs(
    seq INTEGER NOT NULL REFERENCES messages(seq) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    PRIMARY KEY(seq, hash)
) WITHOUT ROWID;
CREATE INDEX message_blobs_by_hash ON message_blobs(hash);

CREATE TABLE settings(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE VIRTUAL TABLE search USING fts5(
    text, content = 'bodies', content_rowid = 'seq', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER bodies_in AFTER INSERT ON bodies WHEN new.text <> '' BEGIN
    INSERT INTO search(rowid, text) VALUES (new.seq, new.text);
END;
CREATE TRIGGER bodies_out AFTER DELETE ON bodies WHEN old.text <> '' BEGIN
    INSERT INTO search(search, rowid, text) VALUES ('delete', old.seq, old.text);
END;
CREATE TRIGGER bodies_before AFTER UPDATE OF text ON bodies WHEN old.text <> '' BEGIN
    INSERT INTO search(search, rowid, text) VALUES ('delete', old.seq, old.text);
END;
CREATE TRIGGER bodies_after AFTER UPDATE OF text ON bodies WHEN new.text <> '' BEGIN
    INSERT INTO search(rowid, text) VALUES (new.seq, new.text);
END;
CREATE VIRTUAL TABLE titles USING fts5(text, tokenize = 'unicode61 remove_diacritics 2');
"];

/// The version that this build writes.
pub(crate) const VERSION: i64 = STEPS.len() as i64;

/// Sets up a connection that reads, or reads and writes.
pub(crate) fn set_up(connection: &Connection, writes: bool) -> Result<(), StoreError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    connection
        .execute_batch("PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;")?;
    if writes {
        // FULL: a transaction is on the disk before anyone is told of it, and stays there when the power fails.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_spill = OFF; PRAGMA secure_delete = ON;",
        )?;
        // On a Mac only this reaches the disk itself.
        connection.execute_batch("PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;")?;
    } else {
        connection.execute_batch("PRAGMA query_only = ON;")?;
    }
    Ok(())
}
