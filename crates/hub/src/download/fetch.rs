//! One attempt at one file: asks for what is missing of it, checks that it is still the same file, and writes what comes.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::blob::{Opened, Partial, Unfinished};
use super::cache::RepoCache;
use super::error::DownloadError;
use super::limit::Limiter;
use super::plan::{Plan, PlanFile};
use super::progress::Progress;
use crate::remote::{BlobName, Hub, HubError, Subject, unreachable};

/// Pieces between the network and the disk. Each is at most about half a megabyte.
const QUEUE: usize = 8;
/// How often a file that somebody else is writing is looked at.
const BUSY: Duration = Duration::from_millis(200);

/// How an attempt ended without a file.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It was told to stop. What has arrived is kept.
    Stopped,
    /// It failed.
    Failed(DownloadError),
}

impl<E: Into<DownloadError>> From<E> for Miss {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A file on its way, over all attempts.
pub(crate) struct Fetch {
    pub(crate) hub: Hub,
    pub(crate) cache: Arc<RepoCache>,
    pub(crate) plan: Arc<Plan>,
    /// Which of the plan's files.
    pub(crate) index: usize,
    pub(crate) progress: Arc<Progress>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) stop: CancellationToken,
    /// The ETag of the host that the bytes came from, for `If-Range`.
    pub(crate) validator: Option<HeaderValue>,
}

impl Fetch {
    /// Fetches what is missing of the file, and checks the whole.
    pub(crate) async fn attempt(&mut self) -> Result<(), Miss> {
        let Some(partial) = self.open().await? else {
            self.progress.set(self.index, self.file().size);
            return Ok(());
        };
        self.progress.set(self.index, partial.len());
        let partial = match partial.len() < self.file().size {
            true => self.transfer(partial).await?,
            false => partial,
        };
        let (file, cache) = (self.file().clone(), self.cache.clone());
        let finished = blocking(move || partial.finish()).await?;
        match finished {
            Ok(()) => Ok(()),
            Err(Unfinished::Wrong) => {
                self.progress.set(self.index, 0);
                self.validator = None;
                Err(DownloadError::Checksum { file: file.path.to_string() }.into())
            }
            Err(Unfinished::Io(error)) => Err(DownloadError::io(cache.blob(&file.blob))(error).into()),
        }
    }

    fn file(&self) -> &PlanFile {
        &self.plan.files[self.index]
    }

    /// Takes the file's lock, waiting for whoever has it; `None` if the file is complete.
    async fn open(&self) -> Result<Option<Partial>, Miss> {
        loop {
            let (cache, commit, file) = (self.cache.clone(), self.plan.commit.clone(), self.file().clone());
            let (stop, path) = (self.stop.clone(), cache.partial(&file.blob));
            let opened = blocking(move || Partial::open(&cache, &commit, &file, &stop)).await?;
            if self.stop.is_cancelled() {
                return Err(Miss::Stopped);
            }
            match opened.map_err(DownloadError::io(path.clone()))? {
                Opened::There => return Ok(None),
                Opened::Partial(partial) => return Ok(Some(*partial)),
                // Their progress is ours.
                Opened::Busy => {
                    self.progress.set(self.index, self.cache.present(&self.plan.commit, self.file()))
                }
            }
            self.unless_stopped(tokio::time::sleep(BUSY)).await?;
        }
    }

    /// Appends what is missing.
    async fn transfer(&mut self, mut partial: Partial) -> Result<Partial, Miss> {
        let asked = match self.ask(partial.len()).await? {
            Some(asked) => asked,
            // What is here and what is there do not go together.
            None => self.ask(0).await?.ok_or_else(|| self.changed())?,
        };
        let (response, begins) = asked;
        if begins != partial.len() {
            let cleared = blocking(move || partial.clear().map(|()| partial)).await?;
            partial = cleared.map_err(self.disk())?;
            self.progress.set(self.index, 0);
        }
        let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(QUEUE);
        let writer = spawn_blocking(move || {
            while let Some(piece) = receiver.blocking_recv() {
                partial.write(&piece)?;
            }
            Ok::<_, std::io::Error>(partial)
        });
        let received = self.receive(response, begins, sender).await;
        // The writer ends when the sender is gone; it is always waited for, so that the lock is free afterwards.
        let written = writer.await.map_err(|panic| self.disk()(std::io::Error::other(panic)))?;
        // A full disk is the cause of what the receiver says then.
        let partial = written.map_err(self.disk())?;
        received?;
        Ok(partial)
    }

    /// Passes pieces on until the file is complete.
    async fn receive(
        &self,
        mut response: Response,
        begins: u64,
        sender: mpsc::Sender<bytes::Bytes>,
    ) -> Result<(), Miss> {
        let (url, size) = (response.url().clone(), self.file().size);
        let mut at = begins;
        while at < size {
            let piece =
                self.unless_stopped(response.chunk()).await?.map_err(|error| unreachable(&url, error))?;
            let Some(piece) = piece else {
                let host = crate::remote::host(&url);
                let reason = format!("the answer broke off {} bytes early", size - at);
                return Err(HubError::Unreachable { host, reason }.into());
            };
            at += piece.len() as u64;
            if at > size {
                return Err(self.changed());
            }
            let count = piece.len();
            self.unless_stopped(self.limiter.take(count)).await?;
            // Closed: the disk has refused, and the writer says why.
            if self.unless_stopped(sender.send(piece)).await?.is_err() {
                return Err(Miss::Stopped);
            }
            self.progress.add(self.index, count as u64);
        }
        Ok(())
    }

    /// Asks for the bytes from `offset` on. Returns the answer, and where in the file it begins: there, or at 0. `None`: the
    /// file there is of another length or version than what is here.
    async fn ask(&mut self, offset: u64) -> Result<Option<(Response, u64)>, Miss> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(
                RANGE,
                HeaderValue::try_from(format!("bytes={offset}-")).map_err(|_| self.changed())?,
            );
            if let Some(validator) = &self.validator {
                headers.insert(IF_RANGE, validator.clone());
            }
        }
        let (plan, file) = (self.plan.clone(), self.file().clone());
        let url = self.hub.resolve(&plan.repo, &plan.commit, file.path.as_str());
        let subject = Subject::File(&plan.repo, file.path.as_str());
        let answer = match self.unless_stopped(self.hub.send(Method::GET, url, headers, subject)).await? {
            Ok(answer) => answer,
            Err(HubError::Failed { status: 416, .. }) if offset > 0 => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !self.is_same(&answer.hub_headers) {
            return Err(self.changed());
        }
        let response = answer.response;
        let validator =
            response.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")).cloned();
        let length = number(response.headers().get(CONTENT_LENGTH));
        let begins = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range =
                    response.headers().get(CONTENT_RANGE).and_then(|range| parse_range(range.to_str().ok()?));
                let right = range
                    .is_some_and(|(start, total)| start == offset && total.is_none_or(|t| t == file.size));
                // A range of another version: `If-Range` was not honoured.
                let other = matches!((&validator, &self.validator), (Some(new), Some(old)) if new != old);
                if !right || other {
                    self.validator = None;
                    return Ok(None);
                }
                offset
            }
            StatusCode::OK => 0,
            status => {
                let host = crate::remote::host(response.url());
                return Err(HubError::Failed { host, status: status.as_u16() }.into());
            }
        };
        if length.is_some_and(|length| begins + length != file.size) {
            return Err(self.changed());
        }
        self.validator = validator;
        Ok(Some((response, begins)))
    }

    /// Whether the hub means the content that was planned. A mirror that does not say is believed until the checksum.
    fn is_same(&self, hub_headers: &HeaderMap) -> bool {
        let said = |name: &str| hub_headers.get(name).and_then(|value| value.to_str().ok());
        let file = self.file();
        let commit = said("x-repo-commit");
        // A mirror's own ETag may be any hash; the hub's is the content's name.
        let plain = said(ETAG.as_str()).filter(|_| commit.is_some() && said("x-linked-etag").is_none());
        let blob = said("x-linked-etag").or(plain).and_then(|tag| BlobName::new(tag).ok());
        let same_kind = |blob: &BlobName| std::mem::discriminant(blob) == std::mem::discriminant(&file.blob);
        commit.is_none_or(|commit| commit == self.plan.commit.as_str())
            && blob.filter(same_kind).is_none_or(|blob| blob == file.blob)
            && number(hub_headers.get("x-linked-size")).is_none_or(|size| size == file.size)
    }

    fn changed(&self) -> Miss {
        DownloadError::Changed { file: self.file().path.to_string() }.into()
    }

    fn disk(&self) -> impl FnOnce(std::io::Error) -> DownloadError {
        DownloadError::io(self.cache.partial(&self.file().blob))
    }

    async fn unless_stopped<F: Future>(&self, future: F) -> Result<F::Output, Miss> {
        self.stop.run_until_cancelled(future).await.ok_or(Miss::Stopped)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Miss> {
    // Only a panic or the runtime's end keeps the work from its end.
    spawn_blocking(work).await.map_err(|_| Miss::Stopped)
}

fn number(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.trim().parse().ok()
}

/// Start and whole size of `bytes 5-9/10`.
fn parse_range(range: &str) -> Option<(u64, Option<u64>)> {
    let (part, total) = range.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = part.split_once('-')?.0.trim().parse().ok()?;
    Some((start, if total.trim() == "*" { None } else { Some(total.trim().parse().ok()?) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_exactly() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse_range("bytes 0-0/*"), Some((0, None)));
        for bad in ["", "bytes */10", "items 0-1/2", "bytes 5/10", "bytes a-b/c"] {
            assert_eq!(parse_range(bad), None, "{bad}");
        }
    }
}
