//! Finds the parts of a split GGUF model (`name-00001-of-00003.gguf`) and checks that they belong together.
//!
//! Every part is a GGUF file with tensors of its own; the first holds the model's metadata, and all hold `split.no` and
//! `split.count`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{GgufFile, Metadata};
use crate::ModelError;
use crate::map::MappedFile;
use crate::stored::{MAX_TENSORS, StoredTensor};

/// Parts of a model. The largest in use have a few dozen.
const MAX_PARTS: usize = 1024;

/// A whole model: the metadata of its first part, and the tensors of every part.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Of the first part.
    pub(crate) metadata: Metadata,
    /// In order.
    pub(crate) files: Vec<(MappedFile, Vec<StoredTensor>)>,
}

/// The model that the file at `path` belongs to, whichever part of it that is.
pub(crate) fn open_all(path: &Path) -> Result<Parts, ModelError> {
    let given = GgufFile::open(path)?;
    let claimed = given.metadata().get_usize("split.count").unwrap_or(1);
    let Some(named) = PartName::of(path) else {
        return match claimed {
            0 | 1 => Ok(given.into()),
            _ => Err(given.file().invalid(format!(
                "is one of {claimed} parts, but is not named like one (name-00001-of-{claimed:05}.gguf), so that the \
                 others cannot be found"
            ))),
        };
    };
    // One part of one, or a whole file that merely bears such a name.
    if claimed <= 1 && named.count == 1 {
        return Ok(given.into());
    }
    if claimed != named.count || named.count > MAX_PARTS {
        return Err(given
            .file()
            .invalid(format!("is named as one of {} parts, but its split.count is {claimed}", named.count)));
    }
    drop(given);
    let mut parts: Parts = named.open(1)?.into();
    let claimed = parts.metadata.get_usize("split.tensors.count");
    let mut tensors = parts.files[0].1.len();
    for number in 2..=named.count {
        let (file, _, table) = named.open(number)?.into_parts();
        tensors += table.len();
        // Checked as they come: each part alone may have as many as are allowed for all.
        if tensors > MAX_TENSORS {
            return Err(file.invalid(format!("with it, the model has more than {MAX_TENSORS} tensors")));
        }
        parts.files.push((file, table));
    }
    match claimed {
        Some(claimed) if claimed != tensors => Err(parts.metadata.invalid(format!(
            "split.tensors.count is {claimed}, but the {} parts hold {tensors} tensors",
            named.count
        ))),
        _ => Ok(parts),
    }
}

/// The model that is all in `file`, which has no others beside it.
pub(crate) fn open_one(file: MappedFile) -> Result<Parts, ModelError> {
    let whole = GgufFile::from_map(file)?;
    match whole.metadata().get_usize("split.count").unwrap_or(1) {
        0 | 1 => Ok(whole.into()),
        count => Err(whole.file().invalid(format!("is one of {count} parts, and the others are not there"))),
    }
}

impl From<GgufFile> for Parts {
    fn from(whole: GgufFile) -> Self {
        let (file, metadata, tensors) = whole.into_parts();
        Self { metadata, files: vec![(file, tensors)] }
    }
}

/// `prefix-00001-of-00003.gguf`, taken apart.
#[derive(Debug)]
pub(crate) struct PartName {
    folder: PathBuf,
    prefix: String,
    number: usize,
    count: usize,
}

impl PartName {
    /// `None` if `path` is not named like a part.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five = |digits: &str| -> Option<usize> {
            let plain = digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        let (number, count) = (five(number)?, five(count)?);
        let valid = (1..=count).contains(&number);
        let folder = path.parent()?.to_owned();
        valid.then(|| Self { folder, prefix: prefix.to_owned(), number, count })
    }

    /// Whether this is part 1.
    pub(crate) fn is_first(&self) -> bool {
        self.number == 1
    }

    /// Opens part `number`, which must say that it is that.
    fn open(&self, number: usize) -> Result<GgufFile, ModelError> {
        let missing = |path| {
            let reason = format!("is missing: part {number} of {}, download it too", self.count);
            ModelError::InvalidFile { path, reason }
        };
        let part = GgufFile::open(&self.path(number)).map_err(|error| match error {
            ModelError::Io { path, source } if source.kind() == ErrorKind::NotFound => missing(path),
            other => other,
        })?;
        let (no, count) = (part.metadata().get_usize("split.no"), part.metadata().get_usize("split.count"));
        if no != Some(number - 1) || count != Some(self.count) {
            return Err(part.file().invalid(format!(
                "should be part {number} of {}, but its split.no is {no:?} and its split.count {count:?}",
                self.count
            )));
        }
        Ok(part)
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_five_digits_and_a_possible_number_make_a_part() {
        let part = PartName::of(Path::new("/m/a-b-00002-of-00003.gguf")).unwrap();
        assert_eq!((part.prefix.as_str(), part.number, part.count), ("a-b", 2, 3));
        assert_eq!(part.path(1), Path::new("/m/a-b-00001-of-00003.gguf"));
        for name in [
            "a.gguf",
            "a-1-of-3.gguf",
            "a-00004-of-00003.gguf",
            "a-00000-of-00003.gguf",
            "a-+0001-of-00003.gguf",
            "a-00001-of-00003.safetensors",
            "00001-of-00003.gguf",
        ] {
            assert!(PartName::of(Path::new(name)).is_none(), "{name}");
        }
    }
}
