//! `Performance`: how much of the machine a server may take, in one word.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much of the machine a server may take. Keys that say it in numbers (`threads`, `idle_ttl`) win.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Performance {
    /// Half of the cores compute, and models leave after five minutes without a request.
    Efficiency,
    /// All cores compute, and models leave after fifteen minutes.
    #[default]
    Balanced,
    /// All cores compute, and models stay.
    Performance,
}

impl Performance {
    /// All of them, the most modest first.
    pub const ALL: [Self; 3] = [Self::Efficiency, Self::Balanced, Self::Performance];

    /// As `config.toml` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Efficiency => "efficiency",
            Self::Balanced => "balanced",
            Self::Performance => "performance",
        }
    }

    /// How long a model stays in memory unused; `None` keeps it.
    pub(crate) const fn idle_ttl(self) -> Option<Duration> {
        match self {
            Self::Efficiency => Some(Duration::from_secs(5 * 60)),
            Self::Balanced => Some(Duration::from_secs(15 * 60)),
            Self::Performance => None,
        }
    }

    /// How many threads compute on a machine with so many cores; `None` is one for each.
    pub(crate) fn threads(self, cores: usize) -> Option<NonZeroUsize> {
        match self {
            Self::Efficiency => NonZeroUsize::new((cores / 2).max(1)),
            Self::Balanced | Self::Performance => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn efficiency_leaves_half_of_the_cores_and_at_least_one_computes() {
        let threads = |cores| Performance::Efficiency.threads(cores).map(NonZeroUsize::get);
        assert_eq!((threads(1), threads(2), threads(10)), (Some(1), Some(1), Some(5)));
        assert_eq!(Performance::Performance.threads(10), None);
    }

    #[test]
    fn the_default_is_what_a_server_does_that_is_told_nothing() {
        let told_nothing = crate::PoolConfig::default().idle_ttl;
        assert_eq!(Performance::default().idle_ttl(), told_nothing);
    }
}
