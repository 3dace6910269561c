//! `ToolFormat`: which notation a model uses for its calls.

use super::shape::{self, Shape};
use crate::Tokenizer;

/// How a model writes calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ToolFormat {
    /// Bare JSON with a name that the request offers; for models that no rule below knows.
    #[default]
    Json,
    /// `<tool_call>{…}</tool_call>`: Hermes, Qwen2.5, Qwen3, SmolLM3, Granite 4.
    Hermes,
    /// `<tool_call><function=…><parameter=…>`: Qwen3-Coder.
    QwenXml,
    /// Bare JSON, `<|python_tag|>` or `<function=…>`: Llama 3.x.
    Llama3,
    /// `[TOOL_CALLS]`: Mistral.
    Mistral,
    /// `<|tool_call|>[…]`: Granite 3, Phi-4 mini.
    Granite,
    /// Messages to `functions.…`: gpt-oss.
    Harmony,
    /// `<｜tool▁calls▁begin｜>`: DeepSeek.
    DeepSeek,
}

impl ToolFormat {
    /// By the template's text, else by the vocabulary's special tokens.
    pub fn detect(template: Option<&str>, tokenizer: &Tokenizer) -> Self {
        let any = |texts: &[&str]| match template {
            Some(template) => texts.iter().any(|text| template.contains(text)),
            None => texts.iter().any(|text| tokenizer.special_id(text).is_some()),
        };
        match () {
            () if any(&["<|channel|>"]) && tokenizer.special_id("<|channel|>").is_some() => Self::Harmony,
            () if any(&["<parameter="]) => Self::QwenXml,
            () if any(&["<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>"]) => Self::DeepSeek,
            () if any(&["[TOOL_CALLS]"]) => Self::Mistral,
            () if any(&["<|tool_call|>"]) => Self::Granite,
            () if any(&["<tool_call>"]) => Self::Hermes,
            () if any(&["<|python_tag|>", "<|eom_id|>", "Environment: ipython"]) => Self::Llama3,
            () => Self::Json,
        }
    }

    /// The ways of writing a call in this notation.
    pub(super) fn shapes(self) -> &'static [Shape] {
        match self {
            Self::Json => shape::JSON,
            Self::Hermes => shape::HERMES,
            Self::QwenXml => shape::QWEN_XML,
            Self::Llama3 => shape::LLAMA3,
            Self::Mistral => shape::MISTRAL,
            Self::Granite => shape::GRANITE,
            Self::Harmony => shape::HARMONY,
            Self::DeepSeek => shape::DEEPSEEK,
        }
    }

    /// The markers that must stay visible in the text.
    pub(crate) fn markers(self) -> Vec<&'static str> {
        let inner: &[&str] = match self {
            Self::Mistral => &["[CALL_ID]", "[ARGS]"],
            Self::DeepSeek => &["<｜tool▁sep｜>"],
            Self::Harmony => crate::reasoning::HARMONY,
            _ => &[],
        };
        let outer = self.shapes().iter().flat_map(|s| s.close.iter().copied().chain([s.open]));
        outer.chain(inner.iter().copied()).collect()
    }
}
