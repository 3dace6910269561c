//! Architectures: one file for each family, which turns a checkpoint's config into a [`ModelSpec`].
//!
//! A family is a function `fn(&Context) -> Result<ModelSpec, ModelError>` and a row in `FAMILIES`. It is written once
//! for both formats: `Context` reads Hugging Face's `config.json` or GGUF's metadata under a `Name` that holds both
//! spellings, and finds tensors the same way. What a family file says is therefore what makes that family different.
//!
//! Invariants: every number out of a config is bounded before it is used, nothing is allocated for a layer or an expert
//! whose tensors the checkpoint does not have, and every tensor a spec names was seen with the shape that the spec gives it.

mod activation;
mod block;
mod context;
mod dims;
mod gemma;
mod gpt2;
mod gpt_oss;
mod granite;
mod llama;
mod moe;
mod phi3;
mod qwen;
mod rope;
mod smollm3;
mod tensors;
#[cfg(test)]
mod tests;
mod windows;

use context::Context;

use crate::gguf::Metadata;
use crate::{ModelError, ModelSpec, TensorIndex};

/// What the user may ask of a spec beyond what the checkpoint says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecOptions {
    /// Context in tokens. It becomes the spec's `context_length`, and decides what depends on the length of the context:
    /// the long or short factors of long-rope, the base of dynamic NTK scaling. `None` takes all the model offers.
    pub context: Option<usize>,
}

/// A family of architectures that this crate knows.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What people call it.
    pub name: &'static str,
    /// Class names in the `architectures` of config.json.
    pub hf: &'static [&'static str],
    /// Names in GGUF's `general.architecture`.
    pub gguf: &'static [&'static str],
    build: fn(&Context<'_>) -> Result<ModelSpec, ModelError>,
}

/// Every family, by name.
static FAMILIES: &[Family] = &[
    Family { name: "Gemma 2", hf: &["Gemma2ForCausalLM"], gguf: &["gemma2"], build: gemma::gemma2 },
    Family {
        name: "Gemma 3",
        hf: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
        gguf: &["gemma3"],
        build: gemma::gemma3,
    },
    Family { name: "GPT-2", hf: &["GPT2LMHeadModel"], gguf: &["gpt2"], build: gpt2::spec },
    Family { name: "gpt-oss", hf: &["GptOssForCausalLM"], gguf: &["gpt-oss"], build: gpt_oss::spec },
    Family {
        name: "Granite",
        hf: &["GraniteForCausalLM", "GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
        gguf: &["granite", "granitemoe"],
        build: granite::spec,
    },
    Family {
        name: "Granite 4 (attention only)",
        hf: &["GraniteMoeHybridForCausalLM"],
        gguf: &[],
        build: granite::hybrid,
    },
    Family {
        name: "Llama",
        hf: &["LlamaForCausalLM", "LLaMAForCausalLM"],
        gguf: &["llama"],
        build: llama::llama,
    },
    Family {
        name: "Mistral",
        hf: &[
            "MistralForCausalLM",
            "MinistralForCausalLM",
            "Ministral3ForCausalLM",
            "Mistral3ForConditionalGeneration",
        ],
        gguf: &["mistral3"],
        build: llama::mistral,
    },
    Family { name: "Mixtral", hf: &["MixtralForCausalLM"], gguf: &[], build: llama::mistral },
    Family { name: "Phi-3", hf: &["Phi3ForCausalLM"], gguf: &["phi3"], build: phi3::spec },
    Family { name: "Qwen2", hf: &["Qwen2ForCausalLM"], gguf: &["qwen2"], build: qwen::qwen2 },
    Family { name: "Qwen3", hf: &["Qwen3ForCausalLM"], gguf: &["qwen3"], build: qwen::qwen3 },
    Family { name: "Qwen3-MoE", hf: &["Qwen3MoeForCausalLM"], gguf: &["qwen3moe"], build: qwen::qwen3 },
    Family { name: "SmolLM3", hf: &["SmolLM3ForCausalLM"], gguf: &["smollm3"], build: smollm3::spec },
];

/// The families this crate turns into specs.
pub fn supported() -> &'static [Family] {
    FAMILIES
}

/// The spec of a Hugging Face checkpoint with this `config.json`.
///
/// # Errors
/// [`ModelError::Unsupported`] for an architecture that no family has, or a feature of one that no backend runs;
/// [`ModelError::InvalidFile`] when the config contradicts itself or the tensors.
pub(crate) fn from_hf(
    config: &serde_json::Value,
    tensors: &dyn TensorIndex,
    options: &SpecOptions,
) -> Result<ModelSpec, ModelError> {
    let architecture = context::hf_architecture(config, tensors)?;
    let family = find(architecture, |family| family.hf)?;
    (family.build)(&Context::hf(architecture, config, tensors, options)?)
}

/// The spec of a GGUF file with this metadata.
///
/// # Errors
/// As [`from_hf`].
pub(crate) fn from_gguf(
    metadata: &Metadata,
    tensors: &dyn TensorIndex,
    options: &SpecOptions,
) -> Result<ModelSpec, ModelError> {
    let architecture = metadata.architecture()?;
    let family = find(architecture, |family| family.gguf)?;
    (family.build)(&Context::gguf(architecture, metadata, tensors, options))
}

fn find(
    architecture: &str,
    names: impl Fn(&Family) -> &'static [&'static str],
) -> Result<&'static Family, ModelError> {
    FAMILIES.iter().find(|family| names(family).contains(&architecture)).ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().flat_map(&names).copied().collect();
        let shown: String = architecture.chars().take(80).collect();
        ModelError::Unsupported(format!(
            "unsupported architecture {shown:?}; supported are {}",
            known.join(", ")
        ))
    })
}
