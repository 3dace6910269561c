//! `Store`: everything that is done with conversations.
//!
//! What writes returns a [`Pending`], which is done when it is on the disk, waited for or not. What reads blocks while
//! it reads, on a connection of its own: call it where blocking is allowed.

use std::fs::File;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use perch_protocol::conversations::{
    Conversation, ConversationDetail, ConversationExport, ConversationMessage, ConversationPatch,
    ConversationQuery, MessageQuery, NewConversation, StoreHealth,
};
use rusqlite::{Connection, OpenFlags};

use crate::blobs::Image;
use crate::error::StoreError;
use crate::file::Recovery;
use crate::turns::{Said, Turn};
use crate::writer::{Pending, Writer};
use crate::{blobs, conversations, file, list, messages, schema, transfer, turns};

/// Connections that are kept for readers.
const READERS: usize = 4;
/// Most messages of a page.
const LONGEST_PAGE: u32 = 1000;

/// Everything that is done with conversations.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// `None` once closed.
    writer: Mutex<Option<Writer>>,
    readers: Mutex<Vec<Connection>>,
    recovery: Option<Recovery>,
    /// Keeps other processes out until it is closed.
    lock: Mutex<Option<File>>,
}

impl Store {
    /// Opens the file in `folder`, which is made if need be. A damaged one is set aside, see [`Store::recovery`]; answers
    /// that were being written when the process last ended are marked as interrupted. Blocks; takes time in proportion
    /// to the file.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when the folder cannot be written to, another process uses it, or a later Perch made it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let opened = file::open(folder)?;
        let interrupted = messages::settle(&opened.writer)?;
        if interrupted > 0 {
            tracing::warn!(
                interrupted,
                "answers were being written when Perch last ended; what was saved is kept"
            );
        }
        let unusable = |error: std::io::Error| StoreError::Unusable {
            path: opened.path.clone(),
            reason: format!("no thread can be started: {error}"),
        };
        let writer = Writer::start(opened.writer).map_err(unusable)?;
        Ok(Self {
            path: opened.path,
            writer: Mutex::new(Some(writer)),
            readers: Mutex::default(),
            recovery: opened.recovery,
            lock: Mutex::new(Some(opened.lock)),
        })
    }

    /// What became of a damaged file, as long as that file is there.
    pub fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref().filter(|recovery| recovery.file.exists())
    }

    /// The same for programs.
    pub fn health(&self) -> StoreHealth {
        let ok = || StoreHealth { status: "ok".to_owned(), ..StoreHealth::default() };
        self.recovery().map_or_else(ok, Recovery::health)
    }

    /// Does what is queued, and closes the file. What is asked after that fails. Blocks.
    pub fn close(&self) {
        self.readers.lock().clear();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            writer.finish();
        }
        self.lock.lock().take();
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<T> {
        match &*self.writer.lock() {
            Some(writer) => writer.send(work),
            None => Pending::closed(),
        }
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.writer.lock().is_none() {
            return Err(StoreError::Closed);
        }
        let kept = self.readers.lock().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                // A file that somebody has deleted is not made anew.
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                schema::set_up(&connection, false)?;
                connection
            }
        };
        // One transaction: what is read belongs together.
        let result = connection.transaction().map_err(StoreError::from).and_then(|tx| work(&tx));
        let mut readers = self.readers.lock();
        if readers.len() < READERS && self.writer.lock().is_some() {
            readers.push(connection);
        }
        result
    }

    /// Makes a conversation without messages.
    pub fn create(&self, wanted: NewConversation) -> Pending<Conversation> {
        self.write(|connection| {
            let conversation = conversations::new(wanted)?;
            conversations::insert(connection, &conversation)?;
            Ok(conversation)
        })
    }

    /// Changes a conversation.
    pub fn patch(&self, id: String, patch: ConversationPatch) -> Pending<Conversation> {
        self.write(move |connection| conversations::patch(connection, &id, patch))
    }

    /// Deletes a conversation with its messages.
    pub fn delete(&self, id: String) -> Pending<()> {
        self.write(move |connection| conversations::delete(connection, &id))
    }

    /// Copies a conversation up to a message into a new one.
    pub fn fork(&self, id: String, message_id: String, title: Option<String>) -> Pending<Conversation> {
        self.write(move |connection| conversations::fork(connection, &id, &message_id, title))
    }

    /// Stores what is said and the place of its answer.
    pub fn say(&self, said: Said) -> Pending<Turn> {
        self.write(|connection| turns::say(connection, said))
    }

    /// Stores an answer as it is now. Whether its conversation is still there.
    pub fn rewrite(&self, conversation: String, message: ConversationMessage) -> Pending<bool> {
        self.write(move |connection| messages::rewrite(connection, &conversation, &message))
    }

    /// Stores the conversations of an import, all or none; `copy` gives them new ids.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] at once when something in it cannot be; [`StoreError::Conflict`] later when it is there.
    pub fn import(
        &self,
        import: ConversationExport,
        copy: bool,
    ) -> Result<Pending<Vec<Conversation>>, StoreError> {
        let details = transfer::read(import)?;
        Ok(self.write(move |connection| transfer::import(connection, details, copy)))
    }

    /// A page of conversations, and where the next one begins. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a limit, cursor or query that cannot be.
    pub fn list(
        &self,
        wanted: &ConversationQuery,
    ) -> Result<(Vec<Conversation>, Option<String>), StoreError> {
        match self.read(|connection| list::list(connection, wanted)) {
            // The index can be made anew from what it indexes.
            Err(StoreError::Damaged(reason)) if wanted.q.is_some() => {
                tracing::warn!(reason, "the index of the search is damaged and is made anew");
                self.write(|connection| {
                    Ok(connection.execute_batch("INSERT INTO search(search) VALUES ('rebuild')")?)
                })
                .wait()?;
                self.read(|connection| list::list(connection, wanted))
            }
            result => result,
        }
    }

    /// A conversation without its messages. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn conversation(&self, id: &str) -> Result<Conversation, StoreError> {
        self.read(|connection| Ok(conversations::get(connection, id)?.1))
    }

    /// A conversation with its messages, or some of them. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Invalid`] for a limit that cannot be.
    pub fn detail(&self, id: &str, query: &MessageQuery) -> Result<ConversationDetail, StoreError> {
        if query.limit.is_some_and(|limit| !(1..=LONGEST_PAGE).contains(&limit)) {
            return Err(StoreError::invalid("limit", format!("limit must be between 1 and {LONGEST_PAGE}")));
        }
        self.read(|connection| transfer::detail(connection, id, query.limit, query.before.as_deref()))
    }

    /// The branch of a conversation that ends with a message, first message first. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn branch(&self, id: &str, last: &str) -> Result<Vec<ConversationMessage>, StoreError> {
        self.read(|connection| {
            let (seq, _) = conversations::get(connection, id)?;
            messages::path(connection, messages::seq_of(connection, seq, last)?)
        })
    }

    /// The whole of a conversation, to be imported elsewhere. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn export(&self, id: &str) -> Result<ConversationExport, StoreError> {
        self.read(|connection| transfer::export(connection, id))
    }

    /// The branch that is shown as Markdown. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn export_markdown(&self, id: &str) -> Result<String, StoreError> {
        self.read(|connection| transfer::export_markdown(connection, id))
    }

    /// An image by its hash. Blocks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub fn image(&self, hash: &str) -> Result<Image, StoreError> {
        let found = self.read(|connection| blobs::get(connection, hash))?;
        found.ok_or_else(|| StoreError::not_found("image", hash))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}
