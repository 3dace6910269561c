//! `Profile`: sets of settings for a model, and `Settings`, what is written into its `[[models]]` entry.

use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use toml_edit::{Item, Table, value};

use crate::local::{Format, LocalModel};
use crate::stores::OllamaParams;

/// Bits that a quantisation's name says a weight has, for those above eight.
const FLOATS: [&str; 7] = ["F32", "F16", "BF16", "FP16", "FP32", "FLOAT16", "FLOAT32"];

/// A set of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Short answers soon: 4,096 tokens of context, float weights rounded to four bits, short answers unless asked.
    Fast,
    /// 16,384 tokens of context, float weights rounded to eight bits.
    Balanced,
    /// The model's own context, weights as they are.
    Quality,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Balanced, Self::Quality];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Balanced => "balanced",
            Self::Quality => "quality",
        }
    }

    /// What it is for, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Fast => {
                "4,096 tokens of context, float weights in four bits, answers of at most 1,024 tokens"
            }
            Self::Balanced => "16,384 tokens of context, float weights in eight bits",
            Self::Quality => "the model's own context, weights as they are",
        }
    }

    /// The settings of this profile for a model with a context of `context` tokens, if that is known. Only float weights
    /// are rounded; a context that is shorter already stays.
    pub fn settings(self, model: &LocalModel, context: Option<u64>) -> Settings {
        let label = model.quantization.as_deref().unwrap_or_default().to_ascii_uppercase();
        let floats =
            FLOATS.contains(&label.as_str()) || (label.is_empty() && model.format == Format::Safetensors);
        let cut = |wanted: u64| context.is_none_or(|own| own > wanted).then_some(wanted);
        let quantize = |kind: &str| floats.then(|| kind.to_owned());
        match self {
            Self::Fast => Settings {
                context: cut(4096),
                quantize: quantize("q4_k"),
                max_tokens: Some(1024),
                ..Settings::default()
            },
            Self::Balanced => {
                Settings { context: cut(16_384), quantize: quantize("q8_0"), ..Settings::default() }
            }
            Self::Quality => Settings::default(),
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name));
        known.ok_or_else(|| format!("{name:?} is no profile; fast, balanced and quality are"))
    }
}

/// Settings of a model. `None` says nothing about a key.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Settings {
    pub path: Option<PathBuf>,
    pub repo: Option<String>,
    pub context: Option<u64>,
    pub quantize: Option<String>,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<u64>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub max_tokens: Option<u64>,
}

impl Settings {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These settings where they say something, else what Ollama's `params` layer says. What it says beyond a request's
    /// own limits is left out.
    pub fn or_ollama(self, params: &OllamaParams) -> Self {
        let within = |number: Option<f32>, low: f32, high: f32| number.filter(|n| (low..=high).contains(n));
        Self {
            context: self.context.or(params.num_ctx.filter(|tokens| *tokens > 0)),
            temperature: self.temperature.or(within(params.temperature, 0.0, 2.0)),
            top_p: self.top_p.or(within(params.top_p, f32::MIN_POSITIVE, 1.0)),
            top_k: self.top_k.or(params.top_k.and_then(|k| u64::try_from(k).ok())),
            min_p: self.min_p.or(within(params.min_p, 0.0, 1.0)),
            repetition_penalty: self.repetition_penalty.or(within(params.repeat_penalty, 0.01, 10.0)),
            presence_penalty: self.presence_penalty.or(within(params.presence_penalty, -2.0, 2.0)),
            frequency_penalty: self.frequency_penalty.or(within(params.frequency_penalty, -2.0, 2.0)),
            max_tokens: self
                .max_tokens
                .or(params.num_predict.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)),
            ..self
        }
    }

    /// Writes what it says into a `[[models]]` table.
    pub(crate) fn write(&self, table: &mut Table) {
        let mut set = |key: &str, item: Option<Item>| {
            if let Some(item) = item {
                table[key] = item;
            }
        };
        set("path", self.path.as_ref().and_then(|path| path.to_str()).map(value));
        set("repo", self.repo.as_deref().map(value));
        set("context", integer(self.context));
        set("quantize", self.quantize.as_deref().map(value));
        let defaults = [
            ("temperature", float(self.temperature)),
            ("top_p", float(self.top_p)),
            ("top_k", integer(self.top_k)),
            ("min_p", float(self.min_p)),
            ("repetition_penalty", float(self.repetition_penalty)),
            ("presence_penalty", float(self.presence_penalty)),
            ("frequency_penalty", float(self.frequency_penalty)),
            ("max_tokens", integer(self.max_tokens)),
        ];
        for (key, item) in defaults {
            let Some(item) = item else { continue };
            let inner = table.entry("defaults").or_insert_with(|| value(toml_edit::InlineTable::new()));
            inner[key] = item;
        }
    }
}

fn integer(number: Option<u64>) -> Option<Item> {
    number.and_then(|number| i64::try_from(number).ok()).map(value)
}

/// As it is written in decimal: 0.7 is not to become 0.699999988079071.
fn float(number: Option<f32>) -> Option<Item> {
    number.and_then(|number| number.to_string().parse::<f64>().ok()).map(value)
}
