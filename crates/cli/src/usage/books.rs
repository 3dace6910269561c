//! `Books`: where the counts are: with a running server, or in a folder that no server works with.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use perch_protocol::{Health, Settings, SettingsPatch, UsageBy, UsageErased, UsageFormat, UsageReport};
use perch_server::{Config, change_settings};
use perch_usage::{Ledger, Span, csv, parquet, told};
use serde_json::json;

use crate::args::ServerArgs;
use crate::client::Client;

/// How long a server may take to say that it is there.
const KNOCK: Duration = Duration::from_millis(500);

/// Where the counts are.
pub(super) enum Books<'a> {
    Server(Client),
    Folder(&'a Config),
}

impl<'a> Books<'a> {
    /// The server that was named; or the configured one, if it runs and works with this data folder; or the folder.
    pub(super) async fn of(server: &ServerArgs, config: &'a Config) -> Result<Self> {
        let client = Client::of(server, config)?;
        if server.url.is_some() {
            return Ok(Self::Server(client));
        }
        let there = tokio::time::timeout(KNOCK, client.get::<Health>("/health")).await;
        if !matches!(there, Ok(Ok(_))) {
            return Ok(Self::Folder(config));
        }
        let settings: Settings = client.get("/api/settings").await?;
        let same = |path: &Path| path.canonicalize().ok();
        let ours = same(Path::new(&settings.data_dir)) == same(&config.data_dir);
        Ok(if ours { Self::Server(client) } else { Self::Folder(config) })
    }

    pub(super) async fn report(&self, days: u32, by: UsageBy) -> Result<UsageReport> {
        match self {
            Self::Server(client) => {
                let by = if by == UsageBy::Day { "day" } else { "model" };
                client.get(&format!("/v1/admin/usage?days={days}&by={by}")).await
            }
            Self::Folder(config) => {
                let found = Ledger::look(&config.data_dir);
                let said =
                    found.and_then(|found| found.map(|ledger| ledger.report(days, by, None)).transpose());
                let (enabled, retention_days) = (config.usage.enabled, config.usage.retention_days);
                Ok(UsageReport { enabled, retention_days, ..told(&config.data_dir, said, days) })
            }
        }
    }

    pub(super) async fn export(&self, format: UsageFormat, days: Option<u32>) -> Result<Vec<u8>> {
        match self {
            Self::Server(client) => {
                let format = if format == UsageFormat::Csv { "csv" } else { "parquet" };
                let days = days.map(|days| format!("&days={days}")).unwrap_or_default();
                Ok(client.bytes(&format!("/v1/admin/usage/export?format={format}{days}")).await?.into())
            }
            Self::Folder(config) => {
                let span = days.map_or_else(Span::all, Span::last);
                let found = Ledger::look(&config.data_dir)?;
                let rows = found.map(|ledger| ledger.days_of_models(span)).transpose()?.unwrap_or_default();
                let write = if format == UsageFormat::Csv { csv } else { parquet };
                Ok(write(&rows)?)
            }
        }
    }

    pub(super) async fn erase(&self) -> Result<UsageErased> {
        match self {
            Self::Server(client) => client.delete("/v1/admin/usage").await,
            Self::Folder(config) => Ok(Ledger::erase(&config.data_dir)?),
        }
    }

    pub(super) async fn switch(&self, on: bool) -> Result<()> {
        let settings = json!({"usage.enabled": on}).as_object().cloned().unwrap_or_default();
        let patch = SettingsPatch { settings, ..SettingsPatch::default() };
        match self {
            Self::Server(client) => client.patch::<Settings>("/api/settings", &patch).await.map(drop),
            Self::Folder(config) => Ok(change_settings(config, patch).await.map(drop)?),
        }
    }
}
