//! `Wanted` and `Plan`: what was asked for, and the very files at one commit that this means.

use std::collections::HashMap;

use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap};

use super::error::DownloadError;
use crate::local::Format;
use crate::remote::{
    BadName, BlobName, Commit, Hub, HubError, Preference, RemoteFile, RepoId, RepoInfo, RepoPath, Revision,
    Subject, matching, named, recommended, variants,
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// From which repository.
    pub repo: RepoId,
    /// At which branch, tag or commit.
    pub revision: Revision,
    /// What of it.
    pub select: Select,
}

/// What of a repository was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Select {
    /// Whatever is best on this machine.
    #[default]
    Best,
    /// A quantisation, by its label or its file's name.
    Variant(String),
    /// Files that fit these paths or patterns.
    Files(Vec<String>),
}

impl Wanted {
    /// Reads `author/name` or `author/name:QUANT`.
    ///
    /// # Errors
    /// When the hub allows no such name.
    pub fn parse(model: &str) -> Result<Self, BadName> {
        let (repo, select) = match model.split_once(':') {
            Some((repo, label)) => (repo, Select::Variant(label.to_owned())),
            None => (model, Select::Best),
        };
        Ok(Self { repo: RepoId::new(repo)?, revision: Revision::default(), select })
    }
}

/// The very files that are downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) repo: RepoId,
    pub(crate) revision: Revision,
    pub(crate) commit: Commit,
    /// What requests will call the model.
    pub(crate) model: String,
    pub(crate) quantization: Option<String>,
    pub(crate) files: Vec<PlanFile>,
    /// The commit's other files. Those whose content is on this machine already become part of the snapshot, so that
    /// moving a branch to a newer commit takes nothing away that was downloaded before.
    pub(crate) others: Vec<PlanFile>,
}

/// A file at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanFile {
    pub(crate) path: RepoPath,
    pub(crate) size: u64,
    pub(crate) blob: BlobName,
}

impl Plan {
    /// Asks the hub what `wanted` means now.
    ///
    /// # Errors
    /// [`DownloadError`]: it is not there, or cannot be stored safely.
    pub(crate) async fn make(
        hub: &Hub,
        wanted: &Wanted,
        preference: Preference,
    ) -> Result<Self, DownloadError> {
        let info = hub.repo(&wanted.repo, &wanted.revision).await?;
        for name in &info.unusable {
            tracing::warn!(repo = %wanted.repo, ?name, "a file's name cannot be used; it is left out");
        }
        let Chosen { model, quantization, files } = choose(&info, wanted, preference)?;
        check_case(&files)?;
        let taken: Vec<&RepoPath> = files.iter().map(|file| &file.path).collect();
        let rest = info.files.iter().filter(|file| !taken.contains(&&file.path));
        let others = rest.filter_map(|file| known(file.clone())).collect();
        let mut planned = Vec::with_capacity(files.len());
        for file in files {
            planned.push(match known(file.clone()) {
                Some(file) => file,
                None => ask(hub, &info, file.path).await?,
            });
        }
        Ok(Self {
            repo: info.summary.id.clone(),
            revision: wanted.revision.clone(),
            commit: info.commit,
            model,
            quantization,
            files: planned,
            others,
        })
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }

    /// Whether both mean the same files of the same commit.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.repo == other.repo && self.commit == other.commit && self.files == other.files
    }
}

struct Chosen {
    model: String,
    quantization: Option<String>,
    files: Vec<RemoteFile>,
}

fn choose(info: &RepoInfo, wanted: &Wanted, preference: Preference) -> Result<Chosen, DownloadError> {
    let repo = info.summary.id.to_string();
    let all = variants(info);
    let variant = match &wanted.select {
        Select::Files(patterns) => {
            return Ok(Chosen { model: repo, quantization: None, files: matching(info, patterns)? });
        }
        Select::Variant(label) => named(info, &all, label)?,
        Select::Best => recommended(&all, preference).ok_or(crate::remote::ChoiceError::Nothing { repo })?,
    };
    let quantization = variant.quantization.clone().filter(|_| variant.format == Format::Gguf);
    Ok(Chosen { model: variant.id.clone(), quantization, files: variant.files.clone() })
}

/// On a Mac's disk `README.md` and `readme.md` are one file.
fn check_case(files: &[RemoteFile]) -> Result<(), DownloadError> {
    let mut seen: HashMap<String, &RepoPath> = HashMap::new();
    for file in files {
        if let Some(first) = seen.insert(file.path.as_str().to_lowercase(), &file.path) {
            return Err(DownloadError::SameName { first: first.to_string(), second: file.path.to_string() });
        }
    }
    Ok(())
}

fn known(file: RemoteFile) -> Option<PlanFile> {
    file.blob.map(|blob| PlanFile { path: file.path, size: file.size, blob })
}

/// Asks for a file's headers where the list of files does not say what its content is called: mirrors.
async fn ask(hub: &Hub, info: &RepoInfo, path: RepoPath) -> Result<PlanFile, DownloadError> {
    let repo = &info.summary.id;
    let url = hub.resolve(repo, &info.commit, path.as_str());
    let subject = Subject::File(repo, path.as_str());
    let answer = hub.send(Method::HEAD, url, HeaderMap::new(), subject).await?;
    let said = |name: &str| answer.hub_headers.get(name).and_then(|value| value.to_str().ok());
    let invalid = |what: &str| {
        HubError::Invalid(format!("`{path}` of `{repo}` has no {what}; it could not be checked"))
    };
    let tag = said("x-linked-etag").or_else(|| said(ETAG.as_str())).ok_or_else(|| invalid("ETag"))?;
    let blob = BlobName::new(tag).map_err(|_| invalid("ETag that is a hash of its content"))?;
    let own = answer.response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let size =
        said("x-linked-size").or(own).and_then(|size| size.parse().ok()).ok_or_else(|| invalid("size"))?;
    Ok(PlanFile { path, size, blob })
}
