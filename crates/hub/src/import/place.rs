//! `Place`: where an imported model lies in Perch's folder, and how it comes there whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Check, Found, ImportMode, STAGING};
use crate::names;
use crate::storage::disk_space;

/// Left free on a disk that models are copied to.
const RESERVE: u64 = 1 << 30;

/// Where a model is to lie, below Perch's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Folders, outermost first.
    pub(super) folders: Vec<String>,
    /// Names of the GGUF files, in order; empty for a checkpoint, which is its folder.
    pub(super) files: Vec<String>,
}

impl Place {
    fn folder(&self, root: &Path) -> PathBuf {
        self.folders.iter().fold(root.to_owned(), |path, name| path.join(name))
    }

    /// The model's path: its first file or its folder.
    pub(super) fn path(&self, root: &Path) -> PathBuf {
        self.files.first().map_or_else(|| self.folder(root), |file| self.folder(root).join(file))
    }

    /// Whether nothing is there yet, links that lead nowhere included.
    ///
    /// # Errors
    /// A sentence that names what is there.
    pub(super) fn is_free(&self, root: &Path) -> Result<(), String> {
        let folder = self.folder(root);
        let all: Vec<PathBuf> = match self.files.is_empty() {
            true => vec![folder],
            false => self.files.iter().map(|file| folder.join(file)).collect(),
        };
        match all.iter().find(|path| fs::symlink_metadata(path).is_ok()) {
            Some(taken) => {
                Err(format!("{} is there already; delete it first, or give another id", taken.display()))
            }
            None => Ok(()),
        }
    }
}

/// A model that was placed.
#[derive(Debug)]
pub(super) struct Placed {
    entries: Vec<PathBuf>,
    root: PathBuf,
}

impl Placed {
    /// Takes it away again.
    pub(super) fn undo(&self) {
        for entry in &self.entries {
            let is_folder = fs::symlink_metadata(entry).is_ok_and(|meta| meta.is_dir());
            // A folder here is one that this import has made.
            let gone = if is_folder { fs::remove_dir_all(entry) } else { fs::remove_file(entry) };
            if let Err(error) = gone {
                tracing::warn!(path = %entry.display(), %error, "what was imported could not be taken back");
            }
            let above = entry.ancestors().skip(1).take_while(|above| *above != self.root);
            above.take_while(|above| fs::remove_dir(above).is_ok()).for_each(drop);
        }
    }
}

/// Brings `found` into the folder `root`: prepares it in a hidden folder there, opens it, and renames it into place.
///
/// # Errors
/// A sentence; nothing is left behind then.
pub(super) fn place(
    root: &Path,
    found: &Found,
    mode: ImportMode,
    check: &Check<'_>,
) -> Result<Placed, String> {
    let place = &found.place;
    place.is_free(root)?;
    let failed = |error: io::Error| format!("it cannot be placed into {}: {error}", root.display());
    fs::create_dir_all(root).map_err(failed)?;
    if mode == ImportMode::Copy
        && let Some((free, _)) = disk_space(root)
        && free < found.size_bytes.saturating_add(RESERVE)
    {
        return Err(format!(
            "there is not enough space for a copy of {} bytes: {free} are free",
            found.size_bytes
        ));
    }
    // Removed when dropped, with whatever is still in it.
    let staging = tempfile::Builder::new().prefix(STAGING).tempdir_in(root).map_err(failed)?;
    let staged = staging.path().join("model");
    match (place.files.is_empty(), mode) {
        (true, ImportMode::Copy) => copy_folder(&found.from, found, &staged),
        (true, _) => found.from.canonicalize().and_then(|folder| symlink(folder, &staged)),
        (false, mode) => stage_files(found, &staged, mode),
    }
    .map_err(failed)?;
    let model = place.files.first().map_or_else(|| staged.clone(), |file| staged.join(file));
    check(&model).map_err(|reason| format!("it cannot be used: {reason}"))?;

    let target = place.folder(root);
    let mut placed = Placed { entries: Vec::new(), root: root.to_owned() };
    move_in(&staged, &target, place, &mut placed).map_err(|error| {
        placed.undo();
        failed(error)
    })?;
    Ok(placed)
}

/// One rename where that does it; else file by file, the first part last, because without it there is no model.
fn move_in(staged: &Path, target: &Path, place: &Place, placed: &mut Placed) -> io::Result<()> {
    if let Some(above) = target.parent() {
        fs::create_dir_all(above)?;
    }
    if place.files.is_empty() || !target.exists() {
        fs::rename(staged, target)?;
        placed.entries.push(target.to_owned());
        return sync(target.parent());
    }
    for file in place.files.iter().rev() {
        fs::rename(staged.join(file), target.join(file))?;
        placed.entries.push(target.join(file));
    }
    sync(Some(target))
}

fn sync(folder: Option<&Path>) -> io::Result<()> {
    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn stage_files(found: &Found, staged: &Path, mode: ImportMode) -> io::Result<()> {
    fs::create_dir(staged)?;
    for (from, name) in found.files.iter().zip(&found.place.files) {
        let (from, to) = (from.canonicalize()?, staged.join(name));
        match mode {
            ImportMode::Copy => copy(&from, &to)?,
            _ => symlink(from, to)?,
        }
    }
    Ok(())
}

/// The weights and the small files beside them; other models in the folder, and folders, are not part of it.
fn copy_folder(folder: &Path, found: &Found, staged: &Path) -> io::Result<()> {
    fs::create_dir(staged)?;
    for entry in fs::read_dir(folder)? {
        let from = entry?.path();
        let Some(name) = names::safe_file_name(&from).filter(|_| from.is_file()) else { continue };
        let weights =
            names::gguf_stem(name).is_some() || name.ends_with(".safetensors") || name.ends_with(".bin");
        if !weights || found.files.contains(&from) {
            copy(&from.canonicalize()?, &staged.join(name))?;
        }
    }
    Ok(())
}

/// Shares the blocks with the original where the file system can.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}
