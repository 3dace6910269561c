//! `Recorder`: keeps the ledger of a server, on a thread of its own.
//!
//! Requests leave their numbers in a queue and go on. The thread writes them down once a second, many in one transaction;
//! it alone touches the file. A queue that is full because the disk is stuck loses counts, never time; a file that turns
//! out damaged is set aside and begun anew; any other failure is told by [`Recorder::ask`] and in the log, once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::civil::Date;
use parking_lot::Mutex;
use perch_protocol::{RequestRecord, UsageErased};
use tokio::sync::oneshot;

use crate::entry::{Entry, today};
use crate::error::UsageError;
use crate::ledger::Ledger;

/// Requests that may wait to be written down.
const QUEUE: usize = 4096;
/// So long requests are gathered before they are written down.
const PACE: Duration = Duration::from_secs(1);
/// So long without work, and the write-ahead log is folded into the file.
const REST: Duration = Duration::from_secs(3);

type Question = Box<dyn FnOnce(&mut Keeper) + Send>;

enum Job {
    Note(Entry),
    Ask(Question),
}

/// Keeps the ledger of a server.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    said: Arc<Said>,
    door: Mutex<Door>,
}

/// What was said, which may change at any time.
#[derive(Debug)]
struct Said {
    enabled: AtomicBool,
    retention_days: AtomicU32,
}

/// The way to the thread, which begins when it is first needed.
#[derive(Debug, Default)]
struct Door {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    closed: bool,
    /// Counts are being lost, and the log has said so.
    losing: bool,
}

impl Recorder {
    /// A recorder for the file in `folder`. Nothing is opened or made before it is needed.
    pub fn new(folder: &Path, enabled: bool, retention_days: u32) -> Self {
        let said = Said { enabled: enabled.into(), retention_days: retention_days.into() };
        Self { folder: folder.to_owned(), said: Arc::new(said), door: Mutex::default() }
    }

    /// Counts from now on, or does not. Fewer days take effect with the next request.
    pub fn configure(&self, enabled: bool, retention_days: u32) {
        self.said.enabled.store(enabled, Ordering::Relaxed);
        self.said.retention_days.store(retention_days, Ordering::Relaxed);
    }

    /// Whether requests are counted.
    pub fn enabled(&self) -> bool {
        self.said.enabled.load(Ordering::Relaxed)
    }

    /// How many days are kept.
    pub fn retention_days(&self) -> u32 {
        self.said.retention_days.load(Ordering::Relaxed)
    }

    /// Where the file is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Counts a request that has ended, if that is switched on. Never blocks.
    pub fn note(&self, record: &RequestRecord) {
        if !self.enabled() {
            return;
        }
        let mut door = self.door.lock();
        let lost = match self.jobs(&mut door) {
            Some(jobs) => matches!(jobs.try_send(Job::Note(record.into())), Err(TrySendError::Full(_))),
            None => false,
        };
        if lost && !door.losing {
            tracing::warn!("usage cannot be written down as fast as requests end; some are not counted");
        }
        door.losing = lost;
    }

    /// Does `work` with the ledger, after all that was noted before; without one if nothing was ever counted.
    ///
    /// # Errors
    /// Why the file cannot be used, or [`UsageError::Closed`].
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(Option<&Ledger>) -> Result<T, UsageError> + Send + 'static,
    ) -> Result<T, UsageError> {
        self.put(|keeper| keeper.look().and_then(work)).await
    }

    /// Erases all that was counted, see [`Ledger::erase`]. Counting goes on, if it is switched on.
    ///
    /// # Errors
    /// As [`Ledger::erase`], or [`UsageError::Closed`].
    pub async fn erase(&self) -> Result<UsageErased, UsageError> {
        self.put(Keeper::erase).await
    }

    async fn put<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Keeper) -> Result<T, UsageError> + Send + 'static,
    ) -> Result<T, UsageError> {
        let (sender, receiver) = oneshot::channel();
        let question: Question = Box::new(move |keeper| {
            let _ = sender.send(work(keeper));
        });
        let jobs = self.jobs(&mut self.door.lock());
        let Some(jobs) = jobs else { return Err(UsageError::Closed) };
        // A full queue has to be waited for, and that is nothing for a thread that runs futures.
        let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Ask(question)).is_ok()).await;
        match sent {
            Ok(true) => receiver.await.unwrap_or(Err(UsageError::Closed)),
            _ => Err(UsageError::Closed),
        }
    }

    /// Writes down what was noted, and closes the file. What comes after that is not counted. Blocks.
    pub fn close(&self) {
        let thread = {
            let mut door = self.door.lock();
            door.closed = true;
            door.jobs = None;
            door.thread.take()
        };
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that counts usage panicked");
        }
    }

    fn jobs(&self, door: &mut Door) -> Option<SyncSender<Job>> {
        if door.jobs.is_none() && !door.closed {
            let (jobs, queue) = sync_channel(QUEUE);
            let mut keeper = Keeper::new(&self.folder, self.said.clone());
            let thread = std::thread::Builder::new().name("usage".into());
            match thread.spawn(move || keeper.run(&queue)) {
                Ok(thread) => (door.jobs, door.thread) = (Some(jobs), Some(thread)),
                Err(error) => tracing::warn!(%error, "usage is not counted: no thread can be started"),
            }
        }
        door.jobs.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.close();
    }
}

/// What the thread works with.
struct Keeper {
    folder: PathBuf,
    said: Arc<Said>,
    ledger: Option<Ledger>,
    /// When old days were last forgotten, and how many were to be kept then.
    forgot: Option<(Date, u32)>,
    /// Why the last requests were not counted.
    trouble: Option<UsageError>,
}

impl Keeper {
    fn new(folder: &Path, said: Arc<Said>) -> Self {
        Self { folder: folder.to_owned(), said, ledger: None, forgot: None, trouble: None }
    }

    fn run(&mut self, queue: &Receiver<Job>) {
        let mut unfolded = false;
        loop {
            let next = match unfolded {
                true => queue.recv_timeout(REST),
                false => queue.recv().map_err(RecvTimeoutError::from),
            };
            let mut noted = Vec::new();
            let question = match next {
                Ok(Job::Note(entry)) => {
                    noted.push(entry);
                    gather(queue, &mut noted)
                }
                Ok(Job::Ask(question)) => Some(question),
                Err(RecvTimeoutError::Timeout) => {
                    unfolded = self.ledger.as_ref().is_some_and(|ledger| !ledger.fold());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if !noted.is_empty() {
                self.write(&noted);
                unfolded = true;
            }
            if let Some(question) = question {
                question(self);
            }
        }
        if let Some(ledger) = &self.ledger {
            ledger.fold();
        }
    }

    fn write(&mut self, noted: &[Entry]) {
        let mut written = self.try_write(noted);
        if let Err(UsageError::Damaged(_)) = written {
            // Opening it anew sets it aside.
            self.ledger = None;
            written = self.try_write(noted);
        }
        match written {
            Ok(()) => self.trouble = None,
            Err(error) => {
                if self.trouble.is_none() {
                    tracing::warn!("{error}");
                }
                self.ledger = None;
                self.trouble = Some(error);
            }
        }
    }

    fn try_write(&mut self, noted: &[Entry]) -> Result<(), UsageError> {
        let ledger = match &mut self.ledger {
            Some(ledger) => ledger,
            None => self.ledger.insert(Ledger::open(&self.folder)?),
        };
        ledger.add(noted)?;
        let now = (today(), self.said.retention_days.load(Ordering::Relaxed));
        if self.forgot != Some(now) {
            ledger.forget(now.1)?;
            self.forgot = Some(now);
        }
        Ok(())
    }

    fn erase(&mut self) -> Result<UsageErased, UsageError> {
        // Opened anew by the next request, or never.
        (self.ledger, self.trouble) = (None, None);
        Ledger::erase(&self.folder)
    }

    /// The ledger, if there is one.
    fn look(&mut self) -> Result<Option<&Ledger>, UsageError> {
        if let Some(error) = &self.trouble {
            return Err(error.clone());
        }
        if self.ledger.is_none() {
            self.ledger = Ledger::look(&self.folder)?;
        }
        Ok(self.ledger.as_ref())
    }
}

/// Takes what comes within [`PACE`]; ends early with a question, and with the queue.
fn gather(queue: &Receiver<Job>, noted: &mut Vec<Entry>) -> Option<Question> {
    let end = Instant::now() + PACE;
    while noted.len() < QUEUE {
        match queue.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Job::Note(entry)) => noted.push(entry),
            Ok(Job::Ask(question)) => return Some(question),
            Err(_) => break,
        }
    }
    None
}
