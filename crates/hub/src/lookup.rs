//! How a name that somebody typed finds a model, and which names to suggest when it finds none.

use crate::local::LocalModel;

/// Suggestions given with [`crate::NotFound`].
const SUGGESTIONS: usize = 3;
/// How alike (Jaro-Winkler, 0 to 1) a name must be to be suggested.
const ALIKE: f64 = 0.75;
/// Which file of a repository is meant when its name alone is given, best first; else the smallest.
pub(crate) const PREFERRED: [&str; 9] =
    ["Q4_K_M", "UD-Q4_K_XL", "Q4_K_S", "Q4_0", "Q5_K_M", "Q6_K", "Q8_0", "MXFP4", "BF16"];

/// The model that `id` means: the same id, then one that reads the same ([`plain`]), then a repository's best file, then
/// the last part of a hub id where only one repository has it.
pub(crate) fn pick<'a>(models: &'a [LocalModel], id: &str) -> Option<&'a LocalModel> {
    let by = |same: &dyn Fn(&LocalModel) -> bool| models.iter().find(|m| same(m));
    by(&|m| m.id == id)
        .or_else(|| by(&|m| plain(&m.id) == plain(id)))
        .or_else(|| best_of(models, |m| m.repo.as_deref().is_some_and(|repo| plain(repo) == plain(id))))
        .or_else(|| best_of(models, |m| short_name(&m.id) == plain(id)))
}

/// The one model that fits or, of several files of one repository, the preferred; none if repositories differ.
fn best_of(models: &[LocalModel], fits: impl Fn(&LocalModel) -> bool) -> Option<&LocalModel> {
    let fitting: Vec<&LocalModel> = models.iter().filter(|m| fits(m)).collect();
    let same_repo = fitting.windows(2).all(|pair| pair[0].repo.is_some() && pair[0].repo == pair[1].repo);
    let rank = |m: &LocalModel| {
        let label = m.quantization.as_deref().unwrap_or_default();
        (PREFERRED.iter().position(|p| *p == label).unwrap_or(PREFERRED.len()), m.size_bytes)
    };
    fitting.into_iter().filter(|_| same_repo).min_by_key(|m| rank(m))
}

/// How names are compared when they are not the same: small letters, `name:Q4_K_M` like `name-Q4_K_M`, no extension.
fn plain(id: &str) -> String {
    let id = id.to_lowercase().replace(':', "-");
    id.strip_suffix(".gguf").map(str::to_string).unwrap_or(id)
}

/// `qwen3-0.6b` of `Qwen/Qwen3-0.6B`.
fn short_name(id: &str) -> String {
    plain(id.rsplit('/').next().unwrap_or(id))
}

/// Ids that look like `id`, best first.
pub(crate) fn suggestions(models: &[LocalModel], id: &str) -> Vec<String> {
    let wanted = plain(id);
    let score = |m: &LocalModel| {
        let full = strsim::jaro_winkler(&wanted, &plain(&m.id));
        let part = strsim::jaro_winkler(&short_name(id), &short_name(&m.id));
        let contained = if wanted.len() >= 3 && plain(&m.id).contains(&wanted) { 0.9 } else { 0.0 };
        full.max(part).max(contained)
    };
    let mut scored: Vec<(f64, &str)> = models.iter().map(|m| (score(m), m.id.as_str())).collect();
    scored.retain(|(score, _)| *score >= ALIKE);
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(SUGGESTIONS).map(|(_, id)| id.to_string()).collect()
}

/// A name from outside as it may be shown: bounded, without control characters.
pub(crate) fn printable(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(200).collect()
}
