//! Whether the disk has room for what is still missing.

use std::path::Path;

use super::cache::RepoCache;
use super::error::DownloadError;
use super::plan::{Plan, PlanFile};
use crate::storage::disk_space;

/// Left free for everything else.
const RESERVE: u64 = 256 << 20;

/// Bytes of a plan that are not here yet. Blocks.
pub(crate) fn missing(cache: &RepoCache, plan: &Plan) -> u64 {
    let missing = |file: &PlanFile| file.size - cache.present(&plan.commit, file);
    plan.files.iter().map(missing).fold(0, u64::saturating_add)
}

/// Checks that `needed` bytes have room in `folder`, which need not exist yet. Blocks.
///
/// # Errors
/// [`DownloadError::Storage`] with the numbers.
pub(crate) fn check(folder: &Path, needed: u64) -> Result<(), DownloadError> {
    if needed == 0 {
        return Ok(());
    }
    let needed = needed.saturating_add(RESERVE);
    // A disk that does not say how full it is will say so when it is full.
    match disk_space(folder) {
        Some((available, _)) if available < needed => {
            Err(DownloadError::Storage { needed, available, folder: folder.to_owned() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("not/there/yet");
        assert!(check(&folder, 0).is_ok() && check(&folder, 1).is_ok());
        let Err(DownloadError::Storage { needed, available, .. }) = check(&folder, u64::MAX / 2) else {
            panic!("nobody has such a disk");
        };
        assert!(needed > available && available > 0);
    }
}
