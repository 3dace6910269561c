//! `ModelConfig`: one `[[models]]` table, and `SamplingDefaults`, what a model samples with unless a request says.

use std::path::PathBuf;

use perch_model::Quantize;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::values::written;
use super::{ByteSize, Lifetime};

/// One `[[models]]` table: settings of a model that was found, or a model that lies elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What requests call it. An id of the library without `path` and `repo` only changes that model's settings.
    pub id: String,
    /// The file or folder it is, relative to the data directory.
    pub path: Option<PathBuf>,
    /// The library's id that stands behind this one.
    pub repo: Option<String>,
    /// The kind of server that runs it, where that is another one.
    pub provider: Option<Provider>,
    /// Where that server's routes begin, such as `http://mac.local:8080/v1`.
    pub base_url: Option<String>,
    /// The environment variable that holds that server's key.
    pub api_key_env: Option<String>,
    /// What that server calls it; its id, if not said.
    pub model: Option<String>,
    /// Which backend runs it, by name.
    pub backend: Option<String>,
    /// Longest sequence in tokens, where the model's own is to be cut.
    pub context: Option<usize>,
    /// Round float weights to this on load.
    #[serde(default, deserialize_with = "written")]
    pub quantize: Option<Quantize>,
    /// Bytes of KV, over `kv_budget` of the whole configuration.
    pub kv_budget: Option<ByteSize>,
    /// How long it stays in memory unused, over `idle_ttl`; 0 unloads it as soon as nobody uses it.
    pub keep_alive: Option<Lifetime>,
    /// Whether it stays in memory once it is there, whatever else is asked for.
    #[serde(default)]
    pub pin: bool,
    /// Whether it is loaded when the server starts.
    #[serde(default)]
    pub preload: bool,
    /// What to sample with unless a request says.
    #[serde(default)]
    pub defaults: SamplingDefaults,
    /// Instructions for conversations that begin with none.
    pub system: Option<String>,
    /// Values for the chat template, unless a request gives others.
    #[serde(default)]
    pub chat_template_kwargs: Map<String, Value>,
    /// Other names. One with a `*`, which stands for any text, holds for names that no model has.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `false` hides it. `true` if absent.
    pub enabled: Option<bool>,
}

/// The kind of server that runs a model in place of Perch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Provider {
    /// One that speaks OpenAI's API: another Perch, vLLM, SGLang, llama-server, a cloud.
    #[serde(rename = "openai")]
    OpenAi,
}

impl ModelConfig {
    /// Whether requests may use it.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }

    /// Whether `name` is its id or an alias.
    pub fn answers_to(&self, name: &str) -> bool {
        self.id == name || self.aliases.iter().any(|alias| alias == name)
    }

    /// How much of `name` the best of its aliases with a `*` spells out; `None` if none fits. Capitals do not matter.
    pub fn catches(&self, name: &str) -> Option<usize> {
        let fits = |alias: &&String| alias.contains('*') && fits(&alias.to_lowercase(), &name.to_lowercase());
        self.aliases.iter().filter(fits).map(|alias| alias.chars().filter(|c| *c != '*').count()).max()
    }
}

/// Whether `name` is `pattern`, in which each `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(begin) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(end)
}

/// What a model samples with unless a request says. `None` leaves it to the next source: the checkpoint's
/// generation_config.json, then OpenAI's defaults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingDefaults {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// Nucleus sampling.
    pub top_p: Option<f32>,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: Option<usize>,
    /// Drop tokens less likely than this times the most likely.
    pub min_p: Option<f32>,
    /// 1 is off.
    pub repetition_penalty: Option<f32>,
    /// 0 is off.
    pub presence_penalty: Option<f32>,
    /// 0 is off.
    pub frequency_penalty: Option<f32>,
    /// Most tokens to generate.
    pub max_tokens: Option<usize>,
}

impl SamplingDefaults {
    /// What is wrong with the first value that no request could have.
    pub(crate) fn out_of_range(&self) -> Option<String> {
        let checks = [
            ("temperature", self.temperature, 0.0, 2.0),
            ("top_p", self.top_p, f32::MIN_POSITIVE, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 10.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
            ("max_tokens", self.max_tokens.map(|tokens| tokens as f32), 1.0, f32::MAX),
        ];
        let bad = checks
            .into_iter()
            .find(|(_, value, low, high)| value.is_some_and(|v| !(*low..=*high).contains(&v)));
        bad.map(|(name, value, ..)| format!("{name} cannot be {}", value.unwrap_or_default()))
    }

    /// `self` where it says something, else `other`.
    pub fn or(self, other: &Self) -> Self {
        Self {
            temperature: self.temperature.or(other.temperature),
            top_p: self.top_p.or(other.top_p),
            top_k: self.top_k.or(other.top_k),
            min_p: self.min_p.or(other.min_p),
            repetition_penalty: self.repetition_penalty.or(other.repetition_penalty),
            presence_penalty: self.presence_penalty.or(other.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(other.frequency_penalty),
            max_tokens: self.max_tokens.or(other.max_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_with_a_star_catches_what_it_spells_out_around_it() {
        let model = |aliases: &[&str]| ModelConfig {
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            ..ModelConfig::default()
        };
        let claude = model(&["claude-*", "claude-*-haiku-*", "gpt-4o"]);
        assert_eq!(claude.catches("claude-sonnet-5"), Some(7));
        assert_eq!(claude.catches("Claude-3-haiku-2024"), Some(14));
        assert_eq!(claude.catches("claude-"), Some(7));
        for other in ["claude", "gpt-4o", "my-claude-3", ""] {
            assert_eq!(claude.catches(other), None, "{other}");
        }
        assert_eq!(model(&["*"]).catches("anything"), Some(0));
        assert_eq!(model(&["*a*b"]).catches("xaab"), Some(2));
        assert_eq!(model(&["*ab*ab"]).catches("ab"), None, "no character counts twice");
    }
}
