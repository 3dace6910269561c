//! A database and the files that lie beside it, by name.

use std::fs::File;
use std::path::{Path, PathBuf};

/// `usage.db-wal` for `usage.db` and `wal`.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("-{end}"));
    path.with_file_name(name)
}

/// Makes a file that other users of this machine cannot read, unless it is there. Its log gets the same permissions.
///
/// # Errors
/// What the system says.
pub fn private(path: &Path) -> std::io::Result<()> {
    let mut options = File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// A name that is not taken, for the damaged file at `path`: `usage.damaged-2.db`.
pub fn free_name(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = |n: u32| path.with_file_name(format!("{stem}.damaged-{n}.db"));
    (1..).map(name).find(|name| !name.exists() && !beside(name, "wal").exists()).unwrap_or_else(|| name(0))
}

/// Removes a database with all that lies beside it. What cannot be removed makes the next step fail, and that says why.
pub fn remove(path: &Path) {
    for path in [path.to_owned(), beside(path, "journal"), beside(path, "wal"), beside(path, "shm")] {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_gets_the_first_name_that_neither_a_file_nor_a_log_has() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.db");
        std::fs::write(dir.path().join("usage.damaged-1.db"), "").unwrap();
        std::fs::write(dir.path().join("usage.damaged-2.db-wal"), "").unwrap();
        assert_eq!(free_name(&path), dir.path().join("usage.damaged-3.db"));
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_can_be_read_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("usage.db");
        private(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
