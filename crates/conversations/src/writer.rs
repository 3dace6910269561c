//! The one thread that writes. Jobs that wait together share one transaction and one sync; each is all or nothing for
//! itself, and nobody is told of a job before the transaction is on the disk.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use perch_sqlite::fold;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use crate::error::StoreError;

/// Jobs that share a transaction at most.
const BATCH: usize = 64;
/// So long without work, and the write-ahead log is folded into the file.
const REST: Duration = Duration::from_secs(3);

type Reply = Box<dyn FnOnce(Option<StoreError>) + Send>;

/// What a job did: whether it stands, and how to tell whoever waits. An error there is one that takes it back.
struct Outcome {
    good: bool,
    reply: Reply,
}

type Job = Box<dyn FnOnce(&Connection) -> Outcome + Send>;

/// What was asked of the writer: a future, or something to wait for. Dropped, it is done all the same.
#[must_use = "only its result says that something is kept"]
#[derive(Debug)]
pub struct Pending<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Pending<T> {
    /// What nobody will do.
    pub(crate) fn closed() -> Self {
        Self(oneshot::channel().1)
    }

    /// Waits. Not to be called on a thread that runs futures.
    ///
    /// # Errors
    /// What the job failed with, or that it was not kept.
    pub fn wait(self) -> Result<T, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(StoreError::Closed)))
    }
}

/// The door to the thread.
#[derive(Debug)]
pub(crate) struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> std::io::Result<Self> {
        let (jobs, queue) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("conversations".into());
        let thread = thread.spawn(move || run(connection, &queue))?;
        Ok(Self { jobs, thread })
    }

    /// Queues `work`. It runs even if nobody waits for it.
    pub(crate) fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Pending<T> {
        let (sender, receiver) = oneshot::channel();
        let job = move |connection: &Connection| {
            let result = work(connection);
            let good = result.is_ok();
            let reply = move |lost: Option<StoreError>| {
                let _ = sender.send(lost.map_or(result, Err));
            };
            Outcome { good, reply: Box::new(reply) }
        };
        // A thread that is gone drops the job, and with it the sender.
        let _ = self.jobs.send(Box::new(job));
        Pending(receiver)
    }

    /// Does what is queued, and ends.
    pub(crate) fn finish(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("the thread that writes conversations panicked");
        }
    }
}

fn run(mut connection: Connection, queue: &Receiver<Job>) {
    let mut unfolded = false;
    loop {
        // With nothing left to do it sleeps until it is asked.
        let next = match unfolded {
            true => queue.recv_timeout(REST),
            false => queue.recv().map_err(RecvTimeoutError::from),
        };
        let first = match next {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                unfolded = !fold(&connection);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(BATCH - 1)).collect();
        transact(&mut connection, jobs);
        unfolded = true;
    }
    fold(&connection);
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the file of conversations was not closed cleanly");
    }
}

/// Runs jobs in one transaction and tells whoever waits for them.
fn transact(connection: &mut Connection, jobs: Vec<Job>) {
    let mut replies: Vec<Reply> = Vec::with_capacity(jobs.len());
    let result = (|| {
        let mut tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            let point = tx.savepoint()?;
            // A job that panics drops its reply, and whoever waits is told that it was not kept.
            let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| job(&point))) else { continue };
            replies.push(outcome.reply);
            if outcome.good {
                point.commit()?;
            }
        }
        tx.commit()
    })();
    let failed = result.err();
    if let Some(error) = &failed {
        tracing::error!(%error, "conversations could not be written");
    }
    for reply in replies {
        reply(failed.as_ref().map(StoreError::from));
    }
}
