//! Describing models: what the disk, their headers and the machine's memory say about each.

use std::path::Path;

use perch_hub::{Facts, LocalModel, StoreKind, Stores, Verification};
use perch_protocol as protocol;

use super::{LocalLibrary, Named, Running, inspect, wire};
use crate::pool::{SYSTEM_RESERVE, available_memory};

/// Tokens of context that memory is told for, where a model has more.
pub(super) const CONTEXT: u64 = 8192;
/// A model is loaded if at least so many tokens have room.
const LEAST_CONTEXT: u64 = 2048;
/// Lengths that the details tell memory for, up to the model's own.
const LENGTHS: [u64; 7] = [2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072];

impl LocalLibrary {
    /// Each of `models`, in their order.
    pub(super) fn describe_all(
        &self,
        models: &[Named],
        stores: &Stores,
        running: &dyn Fn(&str) -> Running,
    ) -> Vec<protocol::LocalModel> {
        let available = available_memory();
        let plain: Vec<LocalModel> = models.iter().map(|named| named.model.clone()).collect();
        let facts = self.facts.facts(&plain, inspect::inspect);
        let known = models.iter().zip(facts);
        known
            .map(|(named, facts)| self.describe(named, facts, stores, (running(&named.id), available)))
            .collect()
    }

    fn describe(
        &self,
        named: &Named,
        (facts, verification): (Facts, Verification),
        stores: &Stores,
        (running, available): (Running, u64),
    ) -> protocol::LocalModel {
        let Named { id, names, model, .. } = named;
        let memory =
            memory(&facts, self.context_of(named.context, &facts).min(CONTEXT), available, running.loaded);
        protocol::LocalModel {
            id: id.clone(),
            names: names.clone(),
            repo: model.repo.clone(),
            format: wire::format(model.format),
            architecture: facts.architecture,
            parameters: facts.parameters,
            // What the publisher's name says is finer than what the header can.
            quantization: model.quantization.clone().or(facts.quantization),
            size_bytes: model.size_bytes,
            context_length: facts.context_length,
            license: facts.license,
            chat_template: facts.chat_template,
            description: None,
            path: wire::text(&model.path),
            store: wire::store(stores.kind(model)),
            link_target: link_target(model, stores),
            verification: wire::verification(verification),
            memory: facts.problem.is_none().then_some(memory),
            problem: facts.problem.map(|(code, message)| protocol::Problem {
                code: inspect::code(&code).as_str().to_owned(),
                message,
            }),
            loaded: running.loaded,
            modified_at: wire::time(model.modified),
            last_used_at: running.last_used_at,
        }
    }

    /// A described model with what only opening it tells.
    pub(super) fn describe_whole(
        &self,
        named: &Named,
        model: protocol::LocalModel,
        removal: protocol::Removal,
    ) -> protocol::LocalModelDetails {
        let facts = self.facts.facts(std::slice::from_ref(&named.model), inspect::inspect);
        let facts = facts.into_iter().next().map(|(facts, _)| facts).unwrap_or_default();
        let memory_at = memory_at(&facts, self.context_of(named.context, &facts), model.loaded);
        let (metadata, tensors) = inspect::details(&named.model.path);
        let files = named.model.files.iter().map(|file| protocol::ModelFile {
            path: wire::text(file),
            size_bytes: std::fs::metadata(file).map_or(0, |meta| meta.len()),
            link_target: target(file),
        });
        protocol::LocalModelDetails { files: files.collect(), tensors, memory_at, metadata, removal, model }
    }

    /// The longest context that a model would be loaded with, given its own settings' limit.
    pub(super) fn context_of(&self, own: Option<usize>, facts: &Facts) -> u64 {
        let limit = own.or(self.context).map_or(u64::MAX, |context| context as u64);
        facts.context_length.unwrap_or(CONTEXT).min(limit)
    }
}

/// What the model takes at usual lengths up to `longest` tokens; nothing if it cannot be run.
pub(super) fn memory_at(facts: &Facts, longest: u64, loaded: bool) -> Vec<protocol::LocalMemory> {
    let lengths = LENGTHS.into_iter().filter(|length| *length < longest).chain([longest]);
    let available = available_memory();
    match facts.problem {
        None => lengths.map(|length| memory(facts, length, available, loaded)).collect(),
        Some(_) => Vec::new(),
    }
}

/// What the model takes at `context` tokens. It fits where the system keeps its share; what is loaded fits.
pub(super) fn memory(facts: &Facts, context: u64, available: u64, loaded: bool) -> protocol::LocalMemory {
    let kv = |tokens: u64| facts.kv_bytes_per_token.saturating_mul(tokens);
    let with = |kv: u64| facts.weight_bytes.saturating_add(kv);
    let least = kv(context.min(LEAST_CONTEXT));
    // A longer context is not promised when loading; whoever asks about one wants to know of that.
    let needed = if context > CONTEXT { kv(context) } else { least };
    protocol::LocalMemory {
        context,
        weight_bytes: facts.weight_bytes,
        kv_bytes: kv(context),
        total_bytes: with(kv(context)),
        fits: loaded || with(needed).saturating_add(SYSTEM_RESERVE) <= available,
    }
}

/// Where the bytes lie, if what is in Perch's or the user's folder is a link. In the Hugging Face cache all are.
fn link_target(model: &LocalModel, stores: &Stores) -> Option<String> {
    let kind = stores.kind(model);
    if kind == StoreKind::HuggingFace {
        return None;
    }
    let real = model.path.canonicalize().ok()?;
    let place = model.path.parent()?.canonicalize().ok()?;
    (real.parent() != Some(&place) || target(&model.path).is_some()).then(|| wire::text(&real))
}

fn target(path: &Path) -> Option<String> {
    let link = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
    link.then(|| path.canonicalize().ok()).flatten().map(|real| wire::text(&real))
}
