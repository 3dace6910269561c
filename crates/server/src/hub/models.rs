//! The hub's lists in Perch's words: each model with its size, whether it runs, and whether it fits.

use std::collections::HashSet;

use perch_hub::Format;
use perch_hub::remote::{RepoSummary, Variant, is_mlx};
use perch_protocol::{HubFormat, HubModel, HubVariant, MachineMemory};

use super::machine::{self, Shape};
use super::support;

/// Bits of a weight in Q4_K_M, on average over usual models.
const Q4_K_M_BITS: f64 = 4.85;

/// What is on this machine already: repositories, and `author/name:Q4_K_M`.
#[derive(Debug, Default)]
pub(super) struct Here(HashSet<String>);

impl Here {
    pub(super) fn new(library: &perch_hub::Library) -> Self {
        let models = library.scan().into_iter();
        Self(
            models
                .flat_map(|model| model.repo.into_iter().chain([model.id]))
                .map(|id| id.to_lowercase())
                .collect(),
        )
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.0.contains(&id.to_lowercase())
    }
}

/// One model of a list.
pub(super) fn model(summary: &RepoSummary, here: &Here, machine: MachineMemory) -> HubModel {
    let id = summary.id.to_string();
    let size_bytes = size(summary);
    HubModel {
        author: summary.id.author().to_owned(),
        name: summary.id.name().to_owned(),
        downloads: summary.downloads,
        likes: summary.likes,
        updated_at: summary.last_modified.as_deref().and_then(millis),
        task: summary.task.clone(),
        formats: formats(summary),
        license: summary.license.clone(),
        gated: summary.gated,
        private: summary.private,
        parameters: summary.parameters(),
        size_bytes,
        base_models: base_models(summary),
        support: support::of(summary),
        fit: size_bytes.map(|size| machine::need(size, None, machine).fit),
        downloaded: here.has(&id),
        id,
    }
}

/// One variant of a model.
pub(super) fn variant(
    variant: &Variant,
    recommended: Option<&Variant>,
    shape: Option<&Shape>,
    here: &Here,
    machine: MachineMemory,
) -> HubVariant {
    HubVariant {
        id: variant.id.clone(),
        quantization: variant.quantization.clone(),
        format: match variant.format {
            Format::Gguf => HubFormat::Gguf,
            Format::Mlx => HubFormat::Mlx,
            _ => HubFormat::Safetensors,
        },
        files: variant.files.iter().map(|file| file.path.to_string()).collect(),
        size_bytes: variant.size_bytes(),
        memory: machine::need(variant.weight_bytes, shape, machine),
        recommended: recommended.is_some_and(|best| best.id == variant.id),
        downloaded: here.has(&variant.id),
    }
}

fn formats(summary: &RepoSummary) -> Vec<HubFormat> {
    let mut formats = Vec::new();
    if summary.gguf.is_some() || summary.has_tag("gguf") {
        formats.push(HubFormat::Gguf);
    }
    if is_mlx(summary) {
        formats.push(HubFormat::Mlx);
    } else if summary.has_tag("safetensors") || !summary.safetensors.is_empty() {
        formats.push(HubFormat::Safetensors);
    }
    formats
}

fn size(summary: &RepoSummary) -> Option<u64> {
    let gguf = summary.gguf.as_ref().and_then(|gguf| gguf.parameters);
    summary.safetensors_bytes().or_else(|| gguf.map(|count| (count as f64 * Q4_K_M_BITS / 8.0) as u64))
}

fn base_models(summary: &RepoSummary) -> Vec<String> {
    let mut bases: Vec<String> = summary.base_models().iter().map(|(_, repo)| (*repo).to_owned()).collect();
    bases.sort_unstable();
    bases.dedup();
    bases
}

/// Milliseconds since 1970 of `2026-01-31T12:00:00.000Z`.
pub(super) fn millis(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
