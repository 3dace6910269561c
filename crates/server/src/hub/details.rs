//! Everything about one model, and who carries GGUF of it.

use std::time::SystemTime;

use futures_util::future::join_all;
use perch_hub::Format;
use perch_hub::remote::{HubError, RepoId, RepoInfo, RepoSummary, Revision, Score, recommended, variants};
use perch_protocol::{
    GgufProvider, GgufProviderList, HubAccess, HubFile, HubModelDetails, MachineMemory, ProviderScore,
    ScorePart,
};

use super::Advisor;
use super::machine::{self, Shape};
use super::models::{Here, millis, model, variant};
use super::support;
use crate::clock;

/// Providers whose files are looked at.
const PROVIDERS: usize = 10;

impl Advisor {
    /// Everything about one model.
    ///
    /// # Errors
    /// [`HubError`]: it is not there, or the hub cannot be asked.
    pub async fn details(&self, repo: &RepoId) -> Result<HubModelDetails, HubError> {
        let revision = Revision::default();
        let (info, (here, machine)) = tokio::join!(self.hub.repo(repo, &revision), self.around());
        let info = info?;
        let summary = &info.summary;
        let listed = model(summary, &here, machine);
        let has_config = info.files.iter().any(|file| file.path.as_str() == "config.json");
        let (card, shape) = tokio::join!(
            self.hub.card(&summary.id, &info.commit),
            self.shape(&summary.id, has_config, &listed.base_models)
        );
        // Without its card a gated model can still be described.
        let card = card.ok().flatten();
        let all = variants(&info);
        let best = recommended(&all, machine::preference());
        let variants: Vec<_> =
            all.iter().map(|found| variant(found, best, shape.as_ref(), &here, machine)).collect();
        let endpoint = self.hub.settings().endpoint.as_str().trim_end_matches('/');
        let access = summary.gated.then(|| HubAccess {
            message: "This model is gated: accept its terms on its page, and set HF_TOKEN to a token of the same user."
                .to_owned(),
            url: format!("{endpoint}/{}", summary.id),
        });
        let chosen = variants.iter().find(|variant| variant.recommended);
        let (size, fit) =
            (chosen.map(|variant| variant.size_bytes), chosen.map(|variant| variant.memory.fit));
        let gguf = summary.gguf.as_ref();
        Ok(HubModelDetails {
            revision: info.commit.to_string(),
            card_truncated: card.as_ref().is_some_and(|(_, cut)| *cut),
            card: card.map(|(text, _)| text),
            total_bytes: info.files.iter().map(|file| file.size).fold(0, u64::saturating_add),
            chat_template: chat_template(&info),
            context_length: gguf
                .and_then(|gguf| gguf.context_length)
                .or(shape.and_then(|shape| shape.context)),
            model: perch_protocol::HubModel {
                size_bytes: size.or(listed.size_bytes),
                fit: fit.or(listed.fit),
                ..listed
            },
            files: info.files.iter().map(file).collect(),
            variants,
            access,
            machine,
        })
    }

    /// Who carries GGUF of a model, best first.
    ///
    /// # Errors
    /// [`HubError`]: the hub cannot be asked.
    pub async fn gguf_providers(&self, repo: &RepoId) -> Result<GgufProviderList, HubError> {
        let (found, (here, machine)) = tokio::join!(self.hub.gguf_repos(repo), self.around());
        let mut found = found?;
        // Which of them have which files takes a request each: the best by what is known without.
        let rough = |summary: &RepoSummary| Score::of(summary, repo, &[], age_days(summary)).total();
        found.sort_by(|a, b| rough(b).total_cmp(&rough(a)));
        found.truncate(PROVIDERS);
        let shape = self.shape(repo, true, &[]).await;
        let main = Revision::default();
        let infos = join_all(found.iter().map(|summary| self.hub.repo(&summary.id, &main))).await;
        let around = Around { repo, shape: shape.as_ref(), here: &here, machine };
        let mut providers: Vec<GgufProvider> = found
            .iter()
            .zip(infos)
            .filter_map(|(summary, info)| around.provider(summary, &info.ok()?))
            .collect();
        providers.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(GgufProviderList { model: repo.to_string(), providers, machine })
    }
}

/// What a provider is judged by.
struct Around<'a> {
    repo: &'a RepoId,
    shape: Option<&'a Shape>,
    here: &'a Here,
    machine: MachineMemory,
}

impl Around<'_> {
    /// One provider; `None` if it has no GGUF after all.
    fn provider(&self, summary: &RepoSummary, info: &RepoInfo) -> Option<GgufProvider> {
        let all: Vec<_> =
            variants(info).into_iter().filter(|variant| variant.format == Format::Gguf).collect();
        let best = recommended(&all, machine::preference())?;
        let variants: Vec<_> =
            all.iter().map(|found| variant(found, Some(best), self.shape, self.here, self.machine)).collect();
        let fits =
            |variant: &&perch_protocol::HubVariant| variant.memory.fit != perch_protocol::Fit::TooLarge;
        let fitting: Vec<&str> =
            variants.iter().filter(fits).filter_map(|variant| variant.quantization.as_deref()).collect();
        let score = Score::of(summary, self.repo, &fitting, age_days(summary));
        let [trust, downloads, freshness, quantizations] = Score::WEIGHTS;
        let part = |value, weight| ScorePart { value, weight };
        let runs = support::of(summary).supported != Some(false);
        let recommended = variants.iter().find(|variant| variant.recommended).filter(fits).filter(|_| runs);
        Some(GgufProvider {
            model: model(summary, self.here, self.machine),
            score: score.total(),
            parts: ProviderScore {
                trust: part(score.trust, trust),
                downloads: part(score.downloads, downloads),
                freshness: part(score.freshness, freshness),
                quantizations: part(score.quantizations, quantizations),
            },
            recommended: recommended.map(|variant| variant.id.clone()),
            variants,
        })
    }
}

fn file(file: &perch_hub::remote::RemoteFile) -> HubFile {
    let sha256 = match &file.blob {
        Some(perch_hub::remote::BlobName::Sha256(hex)) => Some(hex.clone()),
        _ => None,
    };
    HubFile { path: file.path.to_string(), size_bytes: file.size, sha256 }
}

/// Whether it has a chat template; `None` where the hub does not say.
fn chat_template(info: &RepoInfo) -> Option<bool> {
    let has = |name: &str| info.files.iter().any(|file| file.path.as_str() == name);
    if has("chat_template.jinja") || has("chat_template.json") {
        return Some(true);
    }
    info.summary.gguf.as_ref().map(|gguf| gguf.chat_template).or(info.summary.config_template)
}

fn age_days(summary: &RepoSummary) -> Option<f64> {
    let changed = summary.last_modified.as_deref().and_then(millis)?;
    Some(clock::millis(SystemTime::now()).saturating_sub(changed) as f64 / 86_400_000.0)
}
