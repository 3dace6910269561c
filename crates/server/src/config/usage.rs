//! `[usage]`: whether requests are counted, and for how long counts stay.

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Most days that can be kept: ten years.
pub(crate) const MAX_DAYS: u32 = 3660;

/// What one source says in its table `[usage]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsageLayer {
    /// Whether requests are counted, by day and model.
    pub enabled: Option<bool>,
    /// Days that counts stay.
    pub retention_days: Option<u32>,
}

impl UsageLayer {
    /// `self`, changed by what `later` says.
    pub(super) fn overlaid(self, later: Self) -> Self {
        Self {
            enabled: later.enabled.or(self.enabled),
            retention_days: later.retention_days.or(self.retention_days),
        }
    }
}

/// Whether requests are counted, and for how long counts stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageConfig {
    /// Whether requests are counted, by day and model.
    pub enabled: bool,
    /// Days that counts stay.
    pub retention_days: u32,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { enabled: false, retention_days: 400 }
    }
}

impl UsageConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.retention_days {
            1..=MAX_DAYS => Ok(()),
            _ => Err(ConfigError::invalid("usage.retention_days", format!("must be 1 to {MAX_DAYS} days"))),
        }
    }
}

impl From<UsageLayer> for UsageConfig {
    fn from(layer: UsageLayer) -> Self {
        let default = Self::default();
        Self {
            enabled: layer.enabled.unwrap_or(default.enabled),
            retention_days: layer.retention_days.unwrap_or(default.retention_days),
        }
    }
}

/// What counts if nobody says anything.
pub(super) fn defaults() -> UsageLayer {
    let UsageConfig { enabled, retention_days } = UsageConfig::default();
    UsageLayer { enabled: Some(enabled), retention_days: Some(retention_days) }
}
