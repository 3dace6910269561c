//! Updates of the app, only when somebody asks for one.
//!
//! Where they come from and whose signature counts is part of the build (`PERCH_UPDATE_FEED`, `PERCH_UPDATE_KEY`): no file
//! on the user's disk can change it. A signature is bound to its version, so that a feed cannot pass an old release off as
//! a new one. Without the two, or where a package manager brings updates, nobody is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tauri::plugin::TauriPlugin;
use tauri::{AppHandle, Runtime, Url};
use tauri_plugin_updater::{Config, Update, UpdaterExt};

/// How long the feed may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there is to say about newer versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Known {
    /// This build has no feed; the page with the releases is on the web.
    #[default]
    OnTheWeb,
    /// Nobody has asked.
    Unasked,
    /// The feed is being asked.
    Asking,
    /// There was nothing newer.
    Newest,
    /// There is this version.
    Newer(String),
    /// It is being downloaded and put in place.
    Installing(String),
}

/// Where updates come from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Feed {
    /// An https address of a description of the newest release.
    pub(crate) url: &'static str,
    /// The public key, as Tauri's signer prints it.
    pub(crate) key: &'static str,
}

impl Feed {
    /// This build's; `None` on Linux, where the app is installed by other means.
    pub(crate) fn of_this_build() -> Option<Self> {
        let url = option_env!("PERCH_UPDATE_FEED").filter(|url| !url.is_empty())?;
        let key = option_env!("PERCH_UPDATE_KEY").filter(|key| !key.is_empty())?;
        cfg!(target_os = "macos").then_some(Self { url, key })
    }

    /// What checks signatures.
    pub(crate) fn plugin<R: Runtime>(self) -> TauriPlugin<R, Config> {
        tauri_plugin_updater::Builder::new().pubkey(self.key).build()
    }
}

/// What is known, and the update that was found.
pub(crate) struct Updates {
    feed: Option<Feed>,
    known: Mutex<Known>,
    found: Mutex<Option<Update>>,
}

impl Updates {
    /// Nobody has asked yet.
    pub(crate) fn new(feed: Option<Feed>) -> Self {
        let known = if feed.is_some() { Known::Unasked } else { Known::OnTheWeb };
        Self { feed, known: Mutex::new(known), found: Mutex::default() }
    }

    /// What is known now.
    pub(crate) fn known(&self) -> Known {
        lock(&self.known).clone()
    }

    /// Notes that a question or an installation begins; `false` if it must not, because one is under way.
    pub(crate) fn begin(&self, next: Known) -> bool {
        let mut known = lock(&self.known);
        if matches!(*known, Known::Asking | Known::Installing(_) | Known::OnTheWeb) {
            return false;
        }
        *known = next;
        true
    }

    /// Asks the feed.
    ///
    /// # Errors
    /// Why it is not known whether there is a newer version, as a sentence.
    pub(crate) async fn ask<R: Runtime>(&self, app: &AppHandle<R>) -> Result<(), String> {
        let answer = self.look(app).await;
        *lock(&self.known) = match &answer {
            Ok(None) => Known::Newest,
            Ok(Some(update)) => Known::Newer(update.version.clone()),
            Err(_) => Known::Unasked,
        };
        *lock(&self.found) = answer.map_err(|error| format!("Updates could not be looked for: {error}"))?;
        Ok(())
    }

    /// Downloads what was found, checks its signature and puts it in the app's place.
    ///
    /// # Errors
    /// Why the app is as it was, as a sentence.
    pub(crate) async fn install(&self) -> Result<(), String> {
        let found = lock(&self.found).clone();
        let Some(update) = found else { return Ok(()) };
        let done = update.download_and_install(|_, _| {}, || {}).await;
        if done.is_err() {
            *lock(&self.known) = Known::Newer(update.version.clone());
        }
        done.map_err(|error| format!("Perch {} was not installed: {error}", update.version))
    }

    async fn look<R: Runtime>(&self, app: &AppHandle<R>) -> Result<Option<Update>, String> {
        let Some(feed) = self.feed else { return Ok(None) };
        let url: Url = feed.url.parse().map_err(|error| format!("the feed's address is wrong: {error}"))?;
        let updater = app.updater_builder().timeout(PATIENCE).endpoints(vec![url]);
        let updater = updater.and_then(|builder| builder.build()).map_err(|error| error.to_string())?;
        updater.check().await.map_err(|error| error.to_string())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
