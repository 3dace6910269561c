//! `Candidate`: a model found in some place, with the names that this place gives it.

use std::path::Path;

use crate::folder::{self, Weights};
use crate::hf_cache;
use crate::local::Source;
use crate::names;
use crate::walk::{self, Links, Listing};

/// A model with all its names, before ids are made unique.
pub(crate) struct Candidate {
    pub(crate) weights: Weights,
    pub(crate) source: Source,
    pub(crate) repo: Option<String>,
    /// Ids, the one it would like to have first.
    pub(crate) names: Vec<String>,
}

/// Models in a folder of the user's, which may hold a Hugging Face cache as well.
pub(crate) fn in_models_dir(dir: &Path, source: Source) -> Vec<Candidate> {
    let root_name = names::safe_file_name(dir).map(str::to_string);
    let mut found = in_cache(dir);
    for listing in walk::walk(dir, Links::Anywhere) {
        let is_cache =
            listing.below_root.first().is_some_and(|top| names::repo_of_cache_folder(top).is_some());
        if is_cache {
            continue;
        }
        for weights in folder::weights_in(&listing) {
            let repo = match &listing.below_root[..] {
                [.., owner, name] => names::repo(owner, name),
                _ => None,
            };
            let names = local_names(&weights, &listing, root_name.as_deref());
            found.push(Candidate { weights, source, repo, names });
        }
    }
    found
}

/// Names of a model in a folder of the user's: `name` or `publisher/name`, as LM Studio lays folders out.
pub(crate) fn local_names(weights: &Weights, listing: &Listing, root: Option<&str>) -> Vec<String> {
    match (&listing.below_root[..], weights.stem.as_deref()) {
        ([], None) => vec![root.unwrap_or("model").to_string()],
        ([folder], None) => vec![folder.clone()],
        ([.., owner, name], None) => vec![format!("{owner}/{name}")],
        ([], Some(stem)) => vec![stem.to_string()],
        ([folder], Some(stem)) => vec![stem.to_string(), format!("{folder}/{stem}")],
        ([.., owner, name], Some(stem)) => gguf_names(&format!("{owner}/{name}"), stem, weights),
    }
}

/// Models in a Hugging Face cache.
pub(crate) fn in_cache(hub: &Path) -> Vec<Candidate> {
    hf_cache::models(hub).into_iter().map(cached).collect()
}

fn cached(hf_cache::Cached { repo, weights }: hf_cache::Cached) -> Candidate {
    let names = match weights.stem.as_deref() {
        None => vec![repo.clone()],
        Some(stem) => gguf_names(&repo, stem, &weights),
    };
    Candidate { weights, source: Source::HfCache, repo: Some(repo), names }
}

/// `org/name:Q4_K_M`, or `org/name:file` where the label is taken or there is none.
fn gguf_names(repo: &str, stem: &str, weights: &Weights) -> Vec<String> {
    let label = weights.quantization.iter().map(|label| format!("{repo}:{label}"));
    label.chain([format!("{repo}:{stem}")]).collect()
}

/// Models that one folder, given by its path, is or holds.
pub(crate) fn in_folder(path: &Path) -> Vec<Candidate> {
    let in_cache = hf_cache::repo_models(path);
    if !in_cache.is_empty() {
        return in_cache.into_iter().map(cached).collect();
    }
    let Some(listing) = walk::list(path) else { return Vec::new() };
    let repo = hf_cache::repo_of_snapshot(path);
    let weights = folder::weights_in(&listing);
    let checkpoints = weights.iter().filter(|w| w.stem.is_none()).count();
    let candidate = |weights: Weights| {
        let own_name =
            || path.canonicalize().ok().and_then(|p| names::safe_file_name(&p).map(str::to_string));
        let name = match &weights.stem {
            Some(stem) => stem.clone(),
            None => repo.clone().or_else(own_name).unwrap_or_else(|| "model".to_string()),
        };
        Candidate { weights, source: Source::Path, repo: repo.clone(), names: vec![name] }
    };
    // A checkpoint is what a folder is; GGUF files beside it are named by their own paths.
    weights.into_iter().filter(|w| checkpoints == 0 || w.stem.is_none()).map(candidate).collect()
}

/// The model that a file, given by its path, is or belongs to.
pub(crate) fn in_file(path: &Path) -> Vec<Candidate> {
    let Some(name) = names::safe_file_name(path) else { return Vec::new() };
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = parent.join(name);
    if !walk::is_of_a_model(name) && folder::is_gguf(&file) {
        // A blob of some program's store: a model by its first bytes, without a name that says so.
        let weights = Weights::of_gguf(file, name);
        return vec![Candidate { names: vec![name.to_string()], weights, source: Source::Path, repo: None }];
    }
    let Some(listing) = walk::list(parent) else { return Vec::new() };
    // A checkpoint's folder can be named by any of its safetensors files or its config.
    let is_it = |w: &Weights| w.files.contains(&file) || (w.stem.is_none() && name == "config.json");
    let stem_or_folder = |w: &Weights| match &w.stem {
        Some(stem) => stem.clone(),
        None => {
            let folder = parent.canonicalize().ok();
            folder.as_deref().and_then(names::safe_file_name).unwrap_or("model").to_string()
        }
    };
    folder::weights_in(&listing)
        .into_iter()
        .filter(is_it)
        .map(|weights| Candidate {
            names: vec![stem_or_folder(&weights)],
            weights,
            source: Source::Path,
            repo: None,
        })
        .collect()
}
