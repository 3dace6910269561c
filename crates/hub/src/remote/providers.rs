//! Who carries GGUF of a model, and how good a source each is.
//!
//! The hub knows most of them as quantisations of the model (`base_model:quantized:…`); others are found by their names.
//! The score is a plain weighted sum whose parts are shown, so that everybody can see why one stands before another.

use super::client::Hub;
use super::error::HubError;
use super::listing::RepoSummary;
use super::safe::RepoId;
use super::search::Search;

/// Repositories that are asked for in each of both ways.
const FOUND: u32 = 40;
/// Publishers known for sound conversions, and how far they are trusted.
const KNOWN: [(&str, f64); 9] = [
    ("ggml-org", 0.95),
    ("bartowski", 0.9),
    ("unsloth", 0.9),
    ("lmstudio-community", 0.9),
    ("mradermacher", 0.6),
    ("Mungert", 0.6),
    ("QuantFactory", 0.5),
    ("MaziyarPanahi", 0.5),
    ("second-state", 0.5),
];
/// Trust in everybody else.
const UNKNOWN: f64 = 0.2;
/// Quantisations that people use, and that a good source has.
const USEFUL: [&str; 5] = ["Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"];
/// Downloads of 30 days that count as many.
const MANY_DOWNLOADS: f64 = 1e6;
/// Days after which freshness has halved.
const HALF_LIFE: f64 = 365.0;

/// The parts of a score, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Whether the publisher is the model's author or known for sound conversions.
    pub trust: f64,
    /// Downloads, on a logarithmic scale.
    pub downloads: f64,
    /// How lately it was changed.
    pub freshness: f64,
    /// Share of the useful quantisations that it has and that fit.
    pub quantizations: f64,
}

impl Score {
    /// Weights of trust, downloads, freshness and quantisations.
    pub const WEIGHTS: [f64; 4] = [0.4, 0.25, 0.1, 0.25];

    /// How good a source `provider` is for GGUF of `model`. `fitting` are the labels of its quantisations that fit this
    /// machine, `age_days` the time since it was changed.
    pub fn of(provider: &RepoSummary, model: &RepoId, fitting: &[&str], age_days: Option<f64>) -> Self {
        let useful = USEFUL.iter().filter(|label| fitting.contains(label)).count();
        Self {
            trust: trust(provider.id.author(), model),
            downloads: ((1.0 + provider.downloads as f64).log10() / MANY_DOWNLOADS.log10()).min(1.0),
            freshness: age_days.map_or(0.0, |days| 0.5f64.powf(days.max(0.0) / HALF_LIFE)),
            quantizations: useful as f64 / USEFUL.len() as f64,
        }
    }

    /// The weighted sum.
    pub fn total(&self) -> f64 {
        let parts = [self.trust, self.downloads, self.freshness, self.quantizations];
        parts.iter().zip(Self::WEIGHTS).map(|(part, weight)| part * weight).sum()
    }
}

fn trust(author: &str, model: &RepoId) -> f64 {
    if !author.is_empty() && author == model.author() {
        return 1.0;
    }
    KNOWN.iter().find(|(name, _)| *name == author).map_or(UNKNOWN, |(_, trust)| *trust)
}

impl Hub {
    /// Repositories that carry GGUF of `model`, the most downloaded first.
    ///
    /// # Errors
    /// [`HubError`]: the hub cannot be asked.
    pub async fn gguf_repos(&self, model: &RepoId) -> Result<Vec<RepoSummary>, HubError> {
        let by = |tags: &[String], query: Option<String>| Search {
            tags: [&["gguf".to_owned()], tags].concat(),
            query,
            sort: Some("downloads"),
            limit: Some(FOUND),
            ..Search::default()
        };
        let related = by(&[format!("base_model:quantized:{model}")], None);
        let named = by(&[], Some(model.name().to_owned()));
        let (related, named) = tokio::try_join!(self.search(&related), self.search(&named))?;
        let alike = named.models.into_iter().filter(|found| is_of(found, model));
        let mut all: Vec<RepoSummary> = related.models.into_iter().chain(alike).collect();
        all.sort_by(|a, b| (b.downloads, &a.id).cmp(&(a.downloads, &b.id)));
        all.dedup_by(|a, b| a.id == b.id);
        Ok(all)
    }
}

/// Whether a repository found by name is of this model: it says so, or is called so.
fn is_of(found: &RepoSummary, model: &RepoId) -> bool {
    let bases = found.base_models();
    if bases.iter().any(|(_, base)| *base == model.as_str()) {
        return true;
    }
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    let name = plain(found.id.name());
    let name = name.strip_suffix("-gguf").unwrap_or(&name);
    // bartowski writes `Qwen_Qwen3-0.6B-GGUF`.
    let with_author = format!("{}-{}", plain(model.author()), plain(model.name()));
    bases.is_empty() && (name == plain(model.name()) || name == with_author)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::listing::RawModel;
    use super::*;

    fn summary(id: &str, downloads: u64, tags: &[&str]) -> RepoSummary {
        let model = json!({"id": id, "downloads": downloads, "tags": tags});
        serde_json::from_value::<RawModel>(model).unwrap().summary().unwrap()
    }

    #[test]
    fn the_author_and_known_publishers_stand_before_a_stranger_with_as_many_downloads() {
        let model = RepoId::new("Qwen/Qwen3-0.6B").unwrap();
        let score = |id: &str, downloads, days| {
            Score::of(&summary(id, downloads, &[]), &model, &["Q4_K_M", "Q8_0"], Some(days)).total()
        };
        let own = score("Qwen/Qwen3-0.6B-GGUF", 10_000, 10.0);
        let known = score("unsloth/Qwen3-0.6B-GGUF", 10_000, 10.0);
        let stranger = score("x/Qwen3-0.6B-GGUF", 10_000, 10.0);
        assert!(own > known && known > stranger);
        assert!(score("x/y", 10_000, 10.0) > score("x/y", 100, 10.0));
        assert!(score("x/y", 100, 10.0) > score("x/y", 100, 1_000.0));
        assert!((Score::WEIGHTS.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        let best = Score { trust: 1.0, downloads: 1.0, freshness: 1.0, quantizations: 1.0 };
        assert!((best.total() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_repository_is_of_a_model_if_it_says_so_or_is_called_so() {
        let model = RepoId::new("Qwen/Qwen3-0.6B").unwrap();
        let is = |id: &str, tags: &[&str]| is_of(&summary(id, 0, tags), &model);
        assert!(is("a/anything", &["base_model:quantized:Qwen/Qwen3-0.6B"]));
        assert!(is("Qwen/Qwen3-0.6B-GGUF", &[]) && is("bartowski/Qwen_Qwen3-0.6B-GGUF", &[]));
        assert!(!is("a/Qwen3-0.6B-GGUF", &["base_model:quantized:other/finetune"]));
        assert!(!is("a/Qwen3-0.6B-finetune-GGUF", &[]));
    }
}
