//! `Remote`: the hub as a server uses it, with its downloads. A server whose settings for the hub cannot be used serves all
//! the same; its routes for the hub say what is wrong.

use perch_hub::download::{DownloadConfig, Downloads};
use perch_hub::remote::{Hub, HubSettings};
use perch_hub::{Library, LibraryConfig};
use tokio::sync::broadcast::error::RecvError;

use super::Advisor;
use crate::config::Config;
use crate::error::ApiError;
use crate::pool::ModelPool;

/// The hub as a server uses it.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    parts: Result<(Advisor, Downloads), ApiError>,
}

impl Remote {
    /// Opens it; unfinished downloads go on. Reads a small file.
    pub(crate) fn open(config: &Config) -> Self {
        let parts = HubSettings::from_env().map_err(ApiError::from).map(|settings| {
            let hub = Hub::new(settings);
            let library = Library::new(LibraryConfig {
                models_dirs: config.models_dirs.clone(),
                hf_home: None,
                data_dir: config.data_dir.clone(),
            });
            let downloads = DownloadConfig {
                max_at_once: config.max_downloads,
                bytes_per_second: config.download_limit,
                state_file: Some(config.data_dir.join("downloads.json")),
            };
            (Advisor::new(hub.clone(), library), Downloads::open(hub, downloads))
        });
        Self { parts }
    }

    pub(crate) fn advisor(&self) -> Result<&Advisor, ApiError> {
        self.parts.as_ref().map(|(advisor, _)| advisor).map_err(Clone::clone)
    }

    pub(crate) fn downloads(&self) -> Result<&Downloads, ApiError> {
        self.parts.as_ref().map(|(_, downloads)| downloads).map_err(Clone::clone)
    }

    /// Makes every model known whose download completes. Runs until it is dropped.
    pub(crate) async fn announce(self, pool: ModelPool) {
        let Ok((_, downloads)) = self.parts else { return };
        let mut completions = downloads.completions();
        drop(downloads);
        loop {
            match completions.recv().await {
                Ok(_) | Err(RecvError::Lagged(_)) => pool.refresh(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Tells all downloads to stand still.
    pub(crate) fn stop(&self) {
        if let Ok((_, downloads)) = &self.parts {
            downloads.stop();
        }
    }

    /// Lets all downloads stand still and waits for their tasks.
    pub(crate) async fn shutdown(&self) {
        if let Ok((_, downloads)) = &self.parts {
            downloads.shutdown().await;
        }
    }
}
