//! Whether this version of Perch runs an architecture or a quantisation: the table of `perch-model`, asked before anything is
//! downloaded. The loader has the last word.

use perch_hub::remote::RepoSummary;
use perch_model::arch::{Family, supported};
use perch_protocol::HubSupport;

/// Whether the architecture of a repository runs.
pub(super) fn of(summary: &RepoSummary) -> HubSupport {
    let gguf = summary.gguf.as_ref().and_then(|gguf| gguf.architecture.as_deref());
    let (name, family) = match (gguf, summary.architecture.as_deref()) {
        (Some(name), _) => (name, find(|family| family.gguf, name)),
        (None, Some(name)) => (name, find(|family| family.hf, name)),
        (None, None) => return HubSupport::default(),
    };
    HubSupport {
        supported: Some(family.is_some()),
        architecture: Some(name.to_owned()),
        family: family.map(|family| family.name.to_owned()),
        reason: family
            .is_none()
            .then(|| format!("this version of Perch does not run the architecture {name}")),
    }
}

fn find(names: impl Fn(&Family) -> &'static [&'static str], name: &str) -> Option<&'static Family> {
    supported().iter().find(|family| names(family).contains(&name))
}

/// Whether GGUF files of this label hold types that backends run.
pub(super) fn runs(label: &str) -> bool {
    let label = label.strip_prefix("UD-").unwrap_or(label);
    if matches!(label, "F32" | "F16" | "BF16" | "FP16" | "FP32" | "MXFP4") {
        return true;
    }
    let Some(rest) = label.strip_prefix('Q') else { return false };
    match rest.split_once('_') {
        Some((_, "0" | "1")) => true,
        Some((bits, kind)) => kind.starts_with('K') && matches!(bits, "2" | "3" | "4" | "5" | "6"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_types_that_backends_run_are_known() {
        for label in ["Q4_K_M", "UD-Q4_K_XL", "Q8_0", "Q5_1", "Q6_K", "BF16", "MXFP4"] {
            assert!(runs(label), "{label}");
        }
        for label in ["IQ4_XS", "UD-IQ1_S", "TQ1_0", "FP8", "NVFP4", "Q4_0_4_8", "4bit"] {
            assert!(!runs(label), "{label}");
        }
    }
}
