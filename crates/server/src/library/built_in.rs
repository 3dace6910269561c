//! The model that is part of the program, among those of the library: described like them, and never deleted.

use std::path::Path;

use perch_hub::Facts;
use perch_model::Checkpoint;
use perch_protocol as protocol;

use super::describe::{CONTEXT, memory, memory_at};
use super::{LocalLibrary, Named, Running, inspect};
use crate::loader::BuiltIn;
use crate::pool::available_memory;

/// Why it cannot be deleted, and what can be done.
pub(super) fn stays(model: BuiltIn) -> String {
    format!("`{}` is part of Perch and cannot be deleted; the setting `builtin = false` hides it", model.id)
}

impl LocalLibrary {
    /// The same library with this model, if the configuration wants it.
    pub fn with_built_in(&self, model: Option<BuiltIn>) -> Self {
        Self { built_in: model.filter(|_| self.builtin), ..self.clone() }
    }

    /// The model that is part of the program, unless one of `named` hides it or it is disabled.
    pub(super) fn built_in(&self, named: &[Named]) -> Option<BuiltIn> {
        self.built_in.filter(|model| {
            let disabled =
                |config: &crate::config::ModelConfig| config.id == model.id && !config.is_enabled();
            !named.iter().any(|named| named.id.eq_ignore_ascii_case(model.id))
                && !self.settings.iter().any(disabled)
        })
    }

    /// The same, if `id` means it.
    pub(super) fn built_in_called(&self, id: &str) -> Option<BuiltIn> {
        let model = self.built_in.filter(|model| model.id.eq_ignore_ascii_case(id))?;
        self.built_in(&self.named(self.library.scan())).map(|_| model)
    }

    pub(super) fn describe_built_in(&self, model: BuiltIn, running: Running) -> protocol::LocalModel {
        let facts = facts(&model);
        let own = self.settings.iter().filter(|config| config.id == model.id);
        let stands_for = self.settings.iter().filter(|config| config.repo.as_deref() == Some(model.id));
        let names = stands_for.flat_map(|config| [&config.id].into_iter().chain(&config.aliases));
        let context = self.context_of(None, &facts).min(CONTEXT);
        let at = memory(&facts, context, available_memory(), running.loaded);
        protocol::LocalModel {
            id: model.id.to_owned(),
            names: own.flat_map(|config| &config.aliases).chain(names).cloned().collect(),
            repo: None,
            format: protocol::ModelFormat::Gguf,
            architecture: facts.architecture,
            parameters: facts.parameters,
            quantization: facts.quantization,
            size_bytes: model.gguf.len() as u64,
            context_length: facts.context_length,
            license: facts.license,
            chat_template: facts.chat_template,
            description: Some(model.description.to_owned()),
            path: String::new(),
            store: protocol::Store::BuiltIn,
            link_target: None,
            // Its bytes are the program's.
            verification: protocol::Verification::Verified,
            memory: facts.problem.is_none().then_some(at),
            problem: facts.problem.map(|(code, message)| protocol::Problem { code, message }),
            loaded: running.loaded,
            modified_at: None,
            last_used_at: running.last_used_at,
        }
    }

    pub(super) fn describe_whole_built_in(
        &self,
        built_in: BuiltIn,
        running: Running,
    ) -> protocol::LocalModelDetails {
        let model = self.describe_built_in(built_in, running);
        let facts = facts(&built_in);
        let opened = Checkpoint::open_static(built_in.id, built_in.gguf);
        let (metadata, tensors) = opened.map(|opened| inspect::details_open(&opened)).unwrap_or_default();
        let removal = protocol::Removal {
            id: model.id.clone(),
            dry_run: true,
            kept: vec![protocol::KeptItem { path: String::new(), reason: stays(built_in) }],
            ..protocol::Removal::default()
        };
        let memory_at = memory_at(&facts, self.context_of(None, &facts), running.loaded);
        protocol::LocalModelDetails { files: Vec::new(), tensors, memory_at, metadata, removal, model }
    }
}

fn facts(model: &BuiltIn) -> Facts {
    match Checkpoint::open_static(model.id, model.gguf) {
        Ok(checkpoint) => inspect::inspect_open(&checkpoint, Path::new("")),
        Err(error) => {
            Facts { problem: Some(("invalid_model_file".to_owned(), error.to_string())), ..Facts::default() }
        }
    }
}
