//! LM Studio: where it keeps models. Within, they lie as `publisher/repository/file.gguf`, which the library reads as it
//! reads any folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Longest settings file that is read.
const MAX_SETTINGS: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    downloads_folder: Option<PathBuf>,
}

/// Folders that LM Studio may use under this home, the one that its settings name first.
pub(super) fn folders(home: &Path) -> Vec<PathBuf> {
    let pointer = std::fs::read_to_string(home.join(".lmstudio-home-pointer")).ok();
    let pointed = pointer.map(|text| PathBuf::from(text.trim())).filter(|path| path.is_absolute());
    let bases = pointed.into_iter().chain([home.join(".lmstudio"), home.join(".cache/lm-studio")]);
    let bases: Vec<PathBuf> = bases.collect();
    let configured = bases.iter().filter_map(|base| settings(&base.join("settings.json")));
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in configured.chain(bases.iter().map(|base| base.join("models"))) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

fn settings(path: &Path) -> Option<PathBuf> {
    let settings: Settings = crate::folder::read_json(path, MAX_SETTINGS)?;
    settings.downloads_folder.filter(|folder| folder.is_absolute())
}
