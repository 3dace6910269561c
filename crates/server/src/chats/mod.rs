//! Conversations that the server keeps: the store, what is being answered in it, and how much of a conversation a model
//! is shown.
//!
//! Each answer is a task of its own that outlives neither the server nor whoever asked: it writes down what there is of
//! the answer every few seconds and, however it ends, at the end. The file is opened when it is first needed.

mod answering;
mod context;
mod writing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use perch_conversations::{Store, StoreError};
use perch_protocol::ErrorCode;
use perch_protocol::conversations::StoreHealth;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use answering::{Ask, Asking, Out};
pub(crate) use writing::{timings, usage};

use crate::config::ChatConfig;
use crate::error::ApiError;

/// The conversations of one server. Clones are the same.
#[derive(Clone)]
pub(crate) struct Chats {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    config: ChatConfig,
    store: OnceCell<Arc<Store>>,
    /// Answers that are being written, by the ids of their messages.
    running: Mutex<HashMap<String, Running>>,
    tasks: TaskTracker,
    closed: CancellationToken,
}

/// An answer that is being written.
struct Running {
    conversation: String,
    /// Tells it to end.
    cancel: CancellationToken,
    /// It has ended.
    ended: CancellationToken,
}

impl Chats {
    pub(crate) fn new(data_dir: &Path, config: ChatConfig, tasks: TaskTracker) -> Self {
        let inner = Inner {
            folder: data_dir.to_owned(),
            config,
            store: OnceCell::new(),
            running: Mutex::default(),
            tasks,
            closed: CancellationToken::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn config(&self) -> &ChatConfig {
        &self.inner.config
    }

    /// The store; opened if need be. One that could not be opened is tried again.
    ///
    /// # Errors
    /// Why conversations cannot be kept.
    pub(crate) async fn store(&self) -> Result<Arc<Store>, ApiError> {
        if self.inner.closed.is_cancelled() {
            return Err(ApiError::stopping());
        }
        let open = || async {
            let folder = self.inner.folder.clone();
            let opened = tokio::task::spawn_blocking(move || Store::open(&folder)).await;
            match opened.map_err(|_| failed())? {
                Ok(store) => Ok(Arc::new(store)),
                Err(error) => {
                    tracing::error!("{error}");
                    Err(ApiError::from(error))
                }
            }
        };
        self.inner.store.get_or_try_init(open).await.cloned()
    }

    /// Reads from the store, where blocking is allowed.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let store = self.store().await?;
        let read = tokio::task::spawn_blocking(move || work(&store)).await;
        Ok(read.map_err(|_| failed())??)
    }

    /// How the file is.
    pub(crate) async fn health(&self) -> StoreHealth {
        match self.store().await {
            Ok(store) => store.health(),
            Err(error) => StoreHealth {
                status: "unavailable".to_owned(),
                message: Some(error.message),
                ..StoreHealth::default()
            },
        }
    }

    /// Ends the answers that are being written in a conversation.
    pub(crate) fn cancel(&self, conversation: &str) {
        let running = self.inner.running.lock();
        running
            .values()
            .filter(|running| running.conversation == conversation)
            .for_each(|running| running.cancel.cancel());
    }

    /// Writes down what is queued, and closes the file.
    pub(crate) async fn close(&self) {
        self.inner.closed.cancel();
        if let Some(store) = self.inner.store.get().cloned() {
            // A panic there has been logged; there is nobody left to tell.
            let _ = tokio::task::spawn_blocking(move || store.close()).await;
        }
    }
}

fn failed() -> ApiError {
    ApiError::new(ErrorCode::EngineError, "reading the conversations failed; Perch's log says more")
}
