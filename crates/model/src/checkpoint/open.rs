//! Finds the files of a checkpoint and reads their headers into one table.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::entry::{Entry, Place, Source, join_mlx, join_mxfp4};
use super::{Checkpoint, Kind};
use crate::gguf::{PartName, Parts, open_all, open_one};
use crate::map::MappedFile;
use crate::stored::{MAX_TENSORS, StoredTensor, shown};
use crate::{ModelError, json, safetensors};

const INDEX: &str = "model.safetensors.index.json";
/// Entries of a folder that are looked at.
const MAX_FOLDER: usize = 10_000;

/// See [`Checkpoint::open`].
pub(super) fn open(path: &Path) -> Result<Checkpoint, ModelError> {
    let kind = std::fs::metadata(path).map_err(|source| ModelError::Io { path: path.to_owned(), source })?;
    if kind.is_dir() {
        return open_folder(path);
    }
    match path.extension().and_then(OsStr::to_str) {
        Some("gguf") => open_gguf(path),
        Some("safetensors") => {
            let folder = path.parent().unwrap_or(Path::new("")).to_owned();
            let sharded = folder.join(INDEX).is_file() && is_shard(path);
            let shards = if sharded { shards(&folder)? } else { vec![path.to_owned()] };
            open_safetensors(path, folder, &shards)
        }
        // A file of the Hugging Face cache may be a blob without an extension: its first bytes tell.
        _ if MappedFile::open(path)?.bytes().starts_with(b"GGUF") => open_gguf(path),
        _ => Err(ModelError::Unsupported(format!(
            "{} is neither a .gguf nor a .safetensors file, nor a folder with one",
            path.display()
        ))),
    }
}

fn open_folder(folder: &Path) -> Result<Checkpoint, ModelError> {
    let files = list(folder)?;
    let with = |extension: &str| -> Vec<&PathBuf> {
        files.iter().filter(|file| file.extension().and_then(OsStr::to_str) == Some(extension)).collect()
    };
    let safetensors = with("safetensors");
    if folder.join(INDEX).is_file() {
        return open_safetensors(folder, folder.to_owned(), &shards(folder)?);
    }
    if !safetensors.is_empty() {
        // Without an index: the one usual name, or whatever there is (older MLX conversions number their shards).
        let usual = folder.join("model.safetensors");
        let shards = match safetensors.contains(&&usual) {
            true => vec![usual],
            false => safetensors.into_iter().cloned().collect(),
        };
        return open_safetensors(folder, folder.to_owned(), &shards);
    }
    let models: Vec<&PathBuf> = with("gguf")
        .into_iter()
        .filter(|file| PartName::of(file).is_none_or(|part| part.is_first()))
        // Vision projectors lie beside the model that they belong to.
        .filter(|file| !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mmproj")))
        .collect();
    match models.as_slice() {
        [model] => open_gguf(model),
        [] if !with("bin").is_empty() || !with("pt").is_empty() || !with("pth").is_empty() => {
            Err(ModelError::Unsupported(format!(
                "{} has PyTorch files only, which can run code; use a safetensors or GGUF version of the model",
                folder.display()
            )))
        }
        [] => Err(ModelError::Unsupported(format!(
            "{} has no .safetensors and no .gguf file",
            folder.display()
        ))),
        several => Err(ModelError::Unsupported(format!(
            "{} has {} GGUF models; name one of them, for example {}",
            folder.display(),
            several.len(),
            several[0].display()
        ))),
    }
}

/// The files of `folder`, sorted by name.
fn list(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let io = |source| ModelError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)?.take(MAX_FOLDER) {
        let path = entry.map_err(io)?.path();
        // Hidden files are other programs' notes (AppleDouble `._model.safetensors` on external disks).
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether `path` is named like one of several (`model-00001-of-00002.safetensors`).
fn is_shard(path: &Path) -> bool {
    path.file_stem().and_then(OsStr::to_str).is_some_and(|stem| stem.contains("-of-"))
}

fn shards(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let index = folder.join(INDEX);
    let names = safetensors::read_index(&index)?;
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    match paths.iter().position(|path| !path.is_file()) {
        Some(missing) => Err(ModelError::InvalidFile {
            path: index,
            reason: format!("names {}, which is missing: download it too", shown(&names[missing])),
        }),
        None => Ok(paths),
    }
}

/// See [`Checkpoint::open_static`].
pub(super) fn open_static(name: &str, bytes: &'static [u8]) -> Result<Checkpoint, ModelError> {
    finish_gguf(Path::new(name), open_one(MappedFile::from_static(name, bytes))?)
}

fn open_gguf(path: &Path) -> Result<Checkpoint, ModelError> {
    finish_gguf(path, open_all(path)?)
}

fn finish_gguf(path: &Path, parts: Parts) -> Result<Checkpoint, ModelError> {
    let mut table = Table::default();
    for (file, tensors) in parts.files {
        table.add(file, tensors)?;
    }
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(table.finish(path, folder, Kind::Gguf(parts.metadata)))
}

/// Opens `shards`, which lie in `folder` together with config.json. `origin` is what the user named.
fn open_safetensors(origin: &Path, folder: PathBuf, shards: &[PathBuf]) -> Result<Checkpoint, ModelError> {
    let config_path = folder.join("config.json");
    if !config_path.is_file() {
        return Err(ModelError::InvalidFile {
            path: config_path,
            reason: "is missing: safetensors need the config.json of their model beside them".into(),
        });
    }
    let config = json::read(&config_path)?;
    if !config.is_object() {
        return Err(ModelError::InvalidFile { path: config_path, reason: "is not a JSON object".into() });
    }
    let mut table = Table::default();
    for shard in shards {
        let file = MappedFile::open(shard)?;
        let tensors = safetensors::read_file(&file)?;
        table.add(file, tensors)?;
    }
    let invalid = |reason| ModelError::InvalidFile { path: origin.to_owned(), reason };
    join_mxfp4(&mut table.tensors).map_err(invalid)?;
    join_mlx(&mut table.tensors, &config).map_err(invalid)?;
    Ok(table.finish(origin, folder, Kind::Safetensors(config)))
}

/// The table of a checkpoint in the making.
#[derive(Debug, Default)]
struct Table {
    files: Vec<MappedFile>,
    tensors: BTreeMap<Box<str>, Entry>,
}

impl Table {
    fn add(&mut self, file: MappedFile, tensors: Vec<StoredTensor>) -> Result<(), ModelError> {
        for StoredTensor { name, kind, shape, range } in tensors {
            let place = Place { file: self.files.len(), range };
            if self.tensors.contains_key(&name) {
                let name = shown(&name);
                return Err(file.invalid(format!("tensor {name} is in another file of the model, too")));
            }
            self.tensors.insert(name, Entry { shape, source: Source::Plain { kind, place } });
            if self.tensors.len() > MAX_TENSORS {
                return Err(file.invalid(format!("the model has more than {MAX_TENSORS} tensors")));
            }
        }
        self.files.push(file);
        Ok(())
    }

    fn finish(self, origin: &Path, folder: PathBuf, kind: Kind) -> Checkpoint {
        let Self { files, tensors } = self;
        Checkpoint { origin: origin.to_owned(), folder, files, tensors, kind }
    }
}
