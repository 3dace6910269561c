//! What is asked of the hub's API: search, one repository, its card, its config.

use reqwest::Url;
use reqwest::header::{HeaderMap, LINK};
use serde_json::Value;

use super::client::Hub;
use super::error::HubError;
use super::listing::{RawModel, RepoInfo, RepoSummary};
use super::refusal::Subject;
use super::safe::{Commit, RepoId, Revision};

/// Models on a page, at most.
const MAX_LIMIT: u32 = 100;
/// Models on a page, if not said.
const LIMIT: u32 = 20;
/// What lists are asked to say about each repository.
const FIELDS: [&str; 11] = [
    "downloads",
    "likes",
    "lastModified",
    "pipeline_tag",
    "tags",
    "gated",
    "private",
    "gguf",
    "safetensors",
    "config",
    "cardData",
];
/// Longest card that is read.
const MAX_CARD: usize = 256 << 10;
/// Longest cursor that is taken.
const MAX_CURSOR: usize = 1_024;

/// What to search for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Words in names.
    pub query: Option<String>,
    /// Whose.
    pub author: Option<String>,
    /// For which task: `text-generation`.
    pub task: Option<String>,
    /// Tags that all must be there: `gguf`, `base_model:quantized:Qwen/Qwen3-0.6B`.
    pub tags: Vec<String>,
    /// The hub's name of an order: `trendingScore`, `downloads`, `likes`, `lastModified`, `createdAt`.
    pub sort: Option<&'static str>,
    /// Models on a page.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One page of models.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The models. Those whose names cannot be used are left out.
    pub models: Vec<RepoSummary>,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

impl Hub {
    /// One page of the models that fit.
    ///
    /// # Errors
    /// [`HubError`]: the hub cannot be asked.
    pub async fn search(&self, search: &Search) -> Result<Page, HubError> {
        let mut url = self.url(["api", "models"]);
        {
            let mut query = url.query_pairs_mut();
            let said =
                [("search", &search.query), ("author", &search.author), ("pipeline_tag", &search.task)];
            for (key, value) in said {
                if let Some(value) = value.as_deref().map(str::trim).filter(|value| !value.is_empty()) {
                    query.append_pair(key, value);
                }
            }
            for tag in &search.tags {
                query.append_pair("filter", tag);
            }
            query.append_pair("sort", search.sort.unwrap_or("trendingScore")).append_pair("direction", "-1");
            query.append_pair("limit", &search.limit.unwrap_or(LIMIT).clamp(1, MAX_LIMIT).to_string());
            for field in FIELDS {
                query.append_pair("expand[]", field);
            }
            if let Some(cursor) = search.cursor.as_deref().filter(|cursor| cursor.len() <= MAX_CURSOR) {
                query.append_pair("cursor", cursor);
            }
        }
        let (raw, headers): (Vec<RawModel>, _) = self.json(url, Subject::Search).await?;
        let models = raw.iter().filter_map(|model| model.summary().ok()).collect();
        Ok(Page { models, next_cursor: next_cursor(&headers) })
    }

    /// A repository with its files, at a revision.
    ///
    /// # Errors
    /// [`HubError`]: it is not there, may not be seen, or the hub cannot be asked.
    pub async fn repo(&self, repo: &RepoId, revision: &Revision) -> Result<RepoInfo, HubError> {
        let mut url = self.api(repo);
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(["revision", revision.as_str()]);
        }
        url.query_pairs_mut().append_pair("blobs", "true");
        let (raw, _): (RawModel, _) = self.json(url, Subject::Repo(repo, revision.as_str())).await?;
        raw.info()
    }

    /// What lists say about one repository.
    ///
    /// # Errors
    /// As [`Hub::repo`].
    pub async fn summary(&self, repo: &RepoId) -> Result<RepoSummary, HubError> {
        let mut url = self.api(repo);
        for field in FIELDS {
            url.query_pairs_mut().append_pair("expand[]", field);
        }
        let (raw, _): (RawModel, _) = self.json(url, Subject::Repo(repo, "main")).await?;
        raw.summary()
    }

    /// The text of a repository's card without the metadata at its head, and whether it is cut; `None` without a card.
    ///
    /// # Errors
    /// As [`Hub::repo`].
    pub async fn card(&self, repo: &RepoId, commit: &Commit) -> Result<Option<(String, bool)>, HubError> {
        let url = self.resolve(repo, commit, "README.md");
        match self.text(url, MAX_CARD, Subject::File(repo, "README.md")).await {
            Ok((text, cut)) => Ok(Some((without_front_matter(&text).trim().to_owned(), cut))),
            Err(HubError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A repository's `config.json`; `None` where there is none or it cannot be read.
    ///
    /// # Errors
    /// As [`Hub::repo`].
    pub async fn config(&self, repo: &RepoId, revision: &str) -> Result<Option<Value>, HubError> {
        let mut url = self.url(repo.as_str().split('/'));
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(["resolve", revision, "config.json"]);
        }
        match self.json(url, Subject::File(repo, "config.json")).await {
            Ok((config, _)) => Ok(Some(config)),
            Err(HubError::NotFound { .. } | HubError::Invalid(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a file's content is.
    pub(crate) fn resolve(&self, repo: &RepoId, commit: &Commit, path: &str) -> Url {
        let segments = repo.as_str().split('/').chain(["resolve", commit.as_str()]).chain(path.split('/'));
        self.url(segments)
    }

    fn api(&self, repo: &RepoId) -> Url {
        self.url(["api", "models"].into_iter().chain(repo.as_str().split('/')))
    }
}

/// The `cursor` of `Link: <https://…?cursor=X>; rel="next"`. The rest of that address is not used.
fn next_cursor(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let address = next.split('<').nth(1)?.split('>').next()?;
    // The address may be relative; only its query counts.
    let base = Url::parse("http://hub/").ok()?;
    let url = base.join(address).ok()?;
    let cursor = url.query_pairs().find(|(key, _)| key == "cursor")?.1.into_owned();
    (!cursor.is_empty() && cursor.len() <= MAX_CURSOR).then_some(cursor)
}

/// A card without the YAML between `---` lines at its head.
fn without_front_matter(card: &str) -> &str {
    let Some(rest) = card.strip_prefix("---").filter(|rest| rest.starts_with(['\n', '\r'])) else {
        return card;
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        at += line.len();
        if line.trim_end() == "---" {
            return &rest[at..];
        }
    }
    card
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn the_cursor_is_taken_out_of_the_link_and_nothing_else_is() {
        let cursor = |link: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_static(link));
            next_cursor(&headers)
        };
        let link = "<https://evil.example/api/models?limit=2&cursor=eyJ%3D%3D>; rel=\"next\"";
        assert_eq!(cursor(link).as_deref(), Some("eyJ=="));
        assert_eq!(cursor("</api/models?cursor=a>; rel=\"next\"").as_deref(), Some("a"));
        for none in ["", "<https://x/?cursor=a>; rel=\"prev\"", "rel=\"next\"", "<http://[>; rel=\"next\""] {
            assert_eq!(cursor(none), None, "{none}");
        }
    }

    #[test]
    fn the_metadata_at_the_head_of_a_card_is_left_out() {
        assert_eq!(without_front_matter("---\nlicense: mit\n---\n# M\n---\nx"), "# M\n---\nx");
        assert_eq!(without_front_matter("---\r\na: b\r\n---\r\n# M"), "# M");
        for whole in ["# M", "---\nnever closed", "--- x", ""] {
            assert_eq!(without_front_matter(whole), whole);
        }
    }
}
