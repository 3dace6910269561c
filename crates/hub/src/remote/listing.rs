//! `RepoSummary` and `RepoInfo`: what the hub's API says about a repository, read leniently and checked.
//!
//! Fields come and go in the hub's answers: what is absent or of another kind is unknown, and only what Perch cannot do
//! without (a name, a commit) is an error.

use serde::Deserialize;
use serde_json::Value;

use super::error::HubError;
use super::safe::{BlobName, Commit, RepoId, RepoPath};

/// Most files of a repository that are looked at.
const MAX_FILES: usize = 50_000;

/// What lists say about a repository.
#[derive(Debug, Clone, PartialEq)]
pub struct RepoSummary {
    /// Its name.
    pub id: RepoId,
    /// Downloads of the last 30 days.
    pub downloads: u64,
    /// Likes.
    pub likes: u64,
    /// When it was last changed, as the hub writes it: `2026-01-31T12:00:00.000Z`.
    pub last_modified: Option<String>,
    /// `text-generation`
    pub task: Option<String>,
    /// Tags: formats, languages, licences, base models.
    pub tags: Vec<String>,
    /// Whether terms must be accepted.
    pub gated: bool,
    /// Whether only some users can see it.
    pub private: bool,
    /// What the hub has read in its GGUF files.
    pub gguf: Option<GgufFacts>,
    /// Elements by type in its safetensors: `("BF16", 596049920)`.
    pub safetensors: Vec<(String, u64)>,
    /// `architectures[0]` of its config.json.
    pub architecture: Option<String>,
    /// Whether its tokenizer's configuration has a chat template.
    pub config_template: Option<bool>,
    /// `license` of its card.
    pub license: Option<String>,
}

/// What the hub has read in a repository's GGUF files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GgufFacts {
    /// Number of weights.
    pub parameters: Option<u64>,
    /// `general.architecture`.
    pub architecture: Option<String>,
    /// Tokens of context.
    pub context_length: Option<u64>,
    /// Whether it has a chat template.
    pub chat_template: bool,
}

/// A repository at one commit, with its files.
#[derive(Debug, Clone, PartialEq)]
pub struct RepoInfo {
    /// What lists say about it.
    pub summary: RepoSummary,
    /// The commit.
    pub commit: Commit,
    /// Its files, by path.
    pub files: Vec<RemoteFile>,
    /// Names that the hub gave and that cannot be used, as they may be shown.
    pub unusable: Vec<String>,
}

/// A file of a repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its path.
    pub path: RepoPath,
    /// Its size in bytes.
    pub size: u64,
    /// What its content is called; absent where a mirror does not say.
    pub blob: Option<BlobName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawModel {
    /// The hub sends both, older mirrors only the second.
    id: Option<String>,
    model_id: Option<String>,
    downloads: Option<Value>,
    likes: Option<Value>,
    last_modified: Option<String>,
    #[serde(rename = "pipeline_tag")]
    pipeline_tag: Option<String>,
    tags: Option<Vec<String>>,
    gated: Option<Value>,
    private: Option<bool>,
    gguf: Option<Value>,
    safetensors: Option<Value>,
    config: Option<Value>,
    card_data: Option<Value>,
    sha: Option<String>,
    siblings: Option<Vec<RawFile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<RawLfs>,
}

#[derive(Deserialize)]
struct RawLfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

impl RawModel {
    /// What lists show of it.
    ///
    /// # Errors
    /// When its name is none.
    pub(super) fn summary(&self) -> Result<RepoSummary, HubError> {
        let name = self.id.as_ref().or(self.model_id.as_ref());
        let name = name.ok_or_else(|| HubError::Invalid("a model without a name".to_owned()))?;
        let id = RepoId::new(name).map_err(|error| HubError::Invalid(error.to_string()))?;
        let number = |value: &Option<Value>| value.as_ref().and_then(Value::as_u64).unwrap_or(0);
        let config = self.config.as_ref();
        let architecture = config.and_then(|c| c.pointer("/architectures/0")?.as_str().map(plain));
        let template =
            config.and_then(|c| c.get("tokenizer_config")).map(|t| has_template(t.get("chat_template")));
        let card = self.card_data.as_ref();
        let license = card.and_then(|card| {
            let name = card.get("license_name").or_else(|| card.get("license"))?;
            name.as_str().or_else(|| name.get(0)?.as_str()).map(plain)
        });
        let tags: Vec<String> = self.tags.iter().flatten().map(|tag| plain(tag)).collect();
        let tagged = || tags.iter().find_map(|tag| tag.strip_prefix("license:").map(str::to_owned));
        Ok(RepoSummary {
            id,
            downloads: number(&self.downloads),
            likes: number(&self.likes),
            last_modified: self.last_modified.clone(),
            task: self.pipeline_tag.as_deref().map(plain),
            // `false`, `"auto"` or `"manual"`.
            gated: self
                .gated
                .as_ref()
                .is_some_and(|gated| !matches!(gated, Value::Bool(false) | Value::Null)),
            private: self.private.unwrap_or(false),
            gguf: self.gguf.as_ref().filter(|gguf| gguf.is_object()).map(gguf_facts),
            safetensors: self.safetensors.as_ref().map(parameters).unwrap_or_default(),
            architecture,
            config_template: template,
            license: license.or_else(tagged),
            tags,
        })
    }

    /// The repository with its files.
    ///
    /// # Errors
    /// When it has no commit, or more files than anybody needs.
    pub(super) fn info(self) -> Result<RepoInfo, HubError> {
        let summary = self.summary()?;
        let invalid = |reason: String| HubError::Invalid(format!("`{}`: {reason}", summary.id));
        let sha = self.sha.ok_or_else(|| invalid("it names no commit".to_owned()))?;
        let commit = Commit::new(&sha).map_err(|error| invalid(error.to_string()))?;
        let raw = self.siblings.unwrap_or_default();
        if raw.len() > MAX_FILES {
            return Err(invalid(format!("it has more than {MAX_FILES} files")));
        }
        let (mut files, mut unusable) = (Vec::with_capacity(raw.len()), Vec::new());
        for file in raw {
            match RepoPath::new(&file.rfilename) {
                Ok(path) => files.push(file.checked(path)),
                Err(_) => unusable.push(plain(&file.rfilename)),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(RepoInfo { summary, commit, files, unusable })
    }
}

impl RawFile {
    fn checked(self, path: RepoPath) -> RemoteFile {
        let lfs = self.lfs.as_ref();
        let tag =
            lfs.and_then(|lfs| lfs.sha256.as_deref().or(lfs.oid.as_deref())).or(self.blob_id.as_deref());
        RemoteFile {
            path,
            size: lfs.and_then(|lfs| lfs.size).or(self.size).unwrap_or(0),
            blob: tag.and_then(|tag| BlobName::new(tag).ok()),
        }
    }
}

fn gguf_facts(gguf: &Value) -> GgufFacts {
    GgufFacts {
        parameters: gguf.get("total").and_then(Value::as_u64),
        architecture: gguf.get("architecture").and_then(Value::as_str).map(plain),
        context_length: gguf.get("context_length").and_then(Value::as_u64),
        chat_template: has_template(gguf.get("chat_template")),
    }
}

fn has_template(value: Option<&Value>) -> bool {
    match value {
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(templates)) => !templates.is_empty(),
        _ => false,
    }
}

fn parameters(safetensors: &Value) -> Vec<(String, u64)> {
    let by_type = safetensors.get("parameters").and_then(Value::as_object);
    let pairs = by_type.into_iter().flatten();
    pairs.filter_map(|(dtype, count)| Some((plain(dtype), count.as_u64()?))).collect()
}

/// Text from the hub as it may be shown in a line: bounded, without control characters.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl RepoSummary {
    /// The models that it says it was made from, and how: `("quantized", "Qwen/Qwen3-0.6B")`.
    pub fn base_models(&self) -> Vec<(&str, &str)> {
        let relations = self.tags.iter().filter_map(|tag| tag.strip_prefix("base_model:"));
        let pairs = relations.filter_map(|rest| rest.split_once(':'));
        pairs.filter(|(_, repo)| RepoId::new(repo).is_ok()).collect()
    }

    /// Whether it carries this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// Number of weights. Packed ones count as what they are unpacked, as far as their type tells.
    pub fn parameters(&self) -> Option<u64> {
        let packed = self.safetensors.iter().any(|(dtype, _)| dtype == "U32");
        let plain = self.safetensors.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
        self.gguf.as_ref().and_then(|gguf| gguf.parameters).or((plain > 0 && !packed).then_some(plain))
    }

    /// Bytes of its safetensors.
    pub fn safetensors_bytes(&self) -> Option<u64> {
        let bytes = |(dtype, count): &(String, u64)| count.saturating_mul(element_bits(dtype)) / 8;
        let sum = self.safetensors.iter().map(bytes).fold(0, u64::saturating_add);
        (sum > 0).then_some(sum)
    }
}

fn element_bits(dtype: &str) -> u64 {
    match dtype {
        "F64" | "I64" | "U64" => 64,
        "F32" | "I32" | "U32" => 32,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "F4" => 4,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn model(value: Value) -> RawModel {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_answer_is_read_leniently_and_its_names_are_checked() {
        let info = model(json!({
            "id": "Qwen/Qwen3-0.6B-GGUF", "modelId": "Qwen/Qwen3-0.6B-GGUF", "_id": "66", "sha": "a".repeat(40), "gated": "manual", "likes": "many", "new_field": {},
            "tags": ["gguf", "base_model:quantized:Qwen/Qwen3-0.6B", "license:apache-2.0"],
            "gguf": {"total": 596_049_920_u64, "architecture": "qwen3", "context_length": 40_960, "chat_template": "{{x}}"},
            "siblings": [
                {"rfilename": "b.gguf", "size": 9, "lfs": {"sha256": "c".repeat(64), "size": 10, "pointerSize": 1}},
                {"rfilename": "../../evil", "size": 1, "blobId": "d".repeat(40)},
                {"rfilename": "README.md", "size": 5, "blobId": "d".repeat(40)},
            ],
        }))
        .info()
        .unwrap();
        assert!(info.summary.gated && info.summary.license.as_deref() == Some("apache-2.0"));
        assert_eq!(info.summary.base_models(), [("quantized", "Qwen/Qwen3-0.6B")]);
        assert_eq!(info.summary.parameters(), Some(596_049_920));
        let files: Vec<(&str, u64)> = info.files.iter().map(|file| (file.path.as_str(), file.size)).collect();
        assert_eq!(files, [("README.md", 5), ("b.gguf", 10)]);
        assert_eq!(info.unusable, ["../../evil"]);
        assert_eq!(info.files[1].blob, Some(BlobName::Sha256("c".repeat(64))));
    }

    #[test]
    fn what_perch_cannot_do_without_is_an_error() {
        assert!(model(json!({"id": "a/../b"})).summary().is_err());
        assert!(model(json!({"id": "a/b"})).info().is_err());
        assert!(model(json!({"id": "a/b", "sha": "../../x"})).info().is_err());
    }

    #[test]
    fn bytes_of_safetensors_follow_from_their_types() {
        let summary = model(
            json!({"id": "a/b", "safetensors": {"parameters": {"BF16": 100, "U32": 10}, "total": 110}}),
        );
        let summary = summary.summary().unwrap();
        assert_eq!(summary.safetensors_bytes(), Some(240));
        assert_eq!(summary.parameters(), None);
    }
}
