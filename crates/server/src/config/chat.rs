//! `[chat]`: how conversations are kept and what of them a model is shown.

use serde::{Deserialize, Serialize};

/// What one source says in its table `[chat]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatLayer {
    /// What models are told before the first message, in conversations that have no instructions of their own; an empty
    /// one is none.
    pub system_prompt: Option<String>,
    /// Turns that a model is shown at most; 0 is as many as fit.
    pub max_turns: Option<usize>,
    /// Whether new conversations are kept.
    pub autosave: Option<bool>,
}

impl ChatLayer {
    /// `self`, changed by what `later` says.
    pub(super) fn overlaid(self, later: Self) -> Self {
        Self {
            system_prompt: later.system_prompt.or(self.system_prompt),
            max_turns: later.max_turns.or(self.max_turns),
            autosave: later.autosave.or(self.autosave),
        }
    }
}

/// How conversations are kept and what of them a model is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatConfig {
    /// What models are told before the first message where a conversation says nothing.
    pub system_prompt: Option<String>,
    /// Turns that a model is shown at most.
    pub max_turns: Option<usize>,
    /// Whether new conversations are kept.
    pub autosave: bool,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self { system_prompt: None, max_turns: None, autosave: true }
    }
}

impl From<ChatLayer> for ChatConfig {
    fn from(layer: ChatLayer) -> Self {
        Self {
            system_prompt: layer.system_prompt.filter(|prompt| !prompt.is_empty()),
            max_turns: layer.max_turns.filter(|turns| *turns > 0),
            autosave: layer.autosave.unwrap_or(true),
        }
    }
}

/// What counts if nobody says anything.
pub(super) fn defaults() -> ChatLayer {
    ChatLayer { system_prompt: Some(String::new()), max_turns: Some(0), autosave: Some(true) }
}
