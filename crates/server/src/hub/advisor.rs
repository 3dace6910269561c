//! `Advisor`: answers what the hub has, and which of it suits this machine.

use perch_hub::Library;
use perch_hub::remote::{Hub, HubError, RepoId, Revision, Search};
use perch_protocol::{HubFormat, HubModelList, HubSearchQuery, HubSort, MachineMemory};

use super::machine;
use super::models::{Here, model};

/// Answers what the hub has, and which of it suits this machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Advisor {
    pub(super) hub: Hub,
    library: Library,
}

impl Advisor {
    /// An adviser who asks `hub` and knows what `library` holds.
    pub fn new(hub: Hub, library: Library) -> Self {
        Self { hub, library }
    }

    /// One page of the models that fit a search.
    ///
    /// # Errors
    /// [`HubError`]: the hub cannot be asked.
    pub async fn search(&self, query: &HubSearchQuery) -> Result<HubModelList, HubError> {
        let search = Search {
            query: query.query.clone(),
            author: query.author.clone(),
            task: query.task.clone(),
            tags: query.format.map(tag).into_iter().map(str::to_owned).collect(),
            sort: Some(sort(query.sort.unwrap_or_default())),
            limit: query.limit,
            cursor: query.cursor.clone(),
        };
        let (page, (here, machine)) = tokio::join!(self.hub.search(&search), self.around());
        let page = page?;
        let models = page.models.iter().map(|summary| model(summary, &here, machine)).collect();
        Ok(HubModelList { models, next_cursor: page.next_cursor })
    }

    /// What is on this machine, and what it has room for.
    pub(super) async fn around(&self) -> (Here, MachineMemory) {
        let library = self.library.clone();
        let looking = tokio::task::spawn_blocking(move || (Here::new(&library), machine::memory()));
        looking.await.unwrap_or_else(|_| (Here::default(), machine::memory()))
    }

    /// The shape and the context of a model: from its own `config.json`, or else from that of a model it was made from.
    /// What cannot be had is not known.
    pub(super) async fn shape(&self, repo: &RepoId, own: bool, bases: &[String]) -> Option<machine::Shape> {
        let candidates =
            own.then(|| repo.clone()).into_iter().chain(bases.iter().filter_map(|b| RepoId::new(b).ok()));
        for candidate in candidates.take(2) {
            let config = self.hub.config(&candidate, Revision::default().as_str()).await;
            if let Some(shape) = config.ok().flatten().as_ref().and_then(machine::Shape::of) {
                return Some(shape);
            }
        }
        None
    }
}

fn tag(format: HubFormat) -> &'static str {
    match format {
        HubFormat::Gguf => "gguf",
        HubFormat::Safetensors => "safetensors",
        HubFormat::Mlx => "mlx",
    }
}

fn sort(sort: HubSort) -> &'static str {
    match sort {
        HubSort::Trending => "trendingScore",
        HubSort::Downloads => "downloads",
        HubSort::Likes => "likes",
        HubSort::Updated => "lastModified",
        HubSort::Created => "createdAt",
    }
}
