//! What file and folder names say: split parts, quantisation labels, repository names, and which names are safe.

use std::path::Path;

/// Longest name taken from a disk; the file systems' own limit.
const MAX_NAME: usize = 255;

/// A part of a split GGUF: `name-00002-of-00005.gguf`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SplitName<'a> {
    /// What all parts share.
    pub(crate) base: &'a str,
    /// Counted from 1.
    pub(crate) part: u32,
    /// How many parts there are.
    pub(crate) parts: u32,
}

/// The stem of a `.gguf` file name, in any case of the extension.
pub(crate) fn gguf_stem(file_name: &str) -> Option<&str> {
    let (stem, ext) = file_name.rsplit_once('.')?;
    (ext.eq_ignore_ascii_case("gguf") && !stem.is_empty()).then_some(stem)
}

/// Reads the stem of a split part, as `gguf-split` writes it: five digits each.
pub(crate) fn split_name(stem: &str) -> Option<SplitName<'_>> {
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (base, part) = rest.rsplit_once('-')?;
    let number = |s: &str| (s.len() == 5).then(|| s.parse::<u32>().ok()).flatten();
    let (part, parts) = (number(part)?, number(parts)?);
    (!base.is_empty() && (1..=parts).contains(&part)).then_some(SplitName { base, part, parts })
}

/// Whether a GGUF file holds a vision or audio projector, which is a part of a model and not one itself.
pub(crate) fn is_projector(stem: &str) -> bool {
    stem.to_ascii_lowercase().split(['-', '.', '_']).any(|word| word == "mmproj")
}

/// The quantisation a name speaks of: `Q4_K_M` in `Qwen3-0.6B-Q4_K_M.gguf`, `4bit` in `Qwen3-0.6B-4bit`.
/// The last such word wins. GGUF labels come back in capitals, bit widths in small letters.
pub fn quantization_label(name: &str) -> Option<String> {
    let stem = gguf_stem(name).unwrap_or(name);
    let stem = split_name(stem).map_or(stem, |split| split.base);
    let words: Vec<&str> = stem.split(['-', '.', ':', ' ', '/']).collect();
    let last = words.iter().rposition(|word| is_label(word))?;
    let word = words[last];
    if word.to_ascii_lowercase().ends_with("bit") {
        return Some(word.to_ascii_lowercase());
    }
    let dynamic = last > 0 && words[last - 1].eq_ignore_ascii_case("UD");
    Some(format!("{}{}", if dynamic { "UD-" } else { "" }, word.to_ascii_uppercase()))
}

fn is_label(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    if let Some(bits) = word.strip_suffix("BIT") {
        return !bits.is_empty() && bits.len() <= 2 && bits.bytes().all(|b| b.is_ascii_digit());
    }
    if matches!(&*word, "F16" | "F32" | "BF16" | "FP16" | "FP32" | "FP8" | "MXFP4" | "NVFP4") {
        return true;
    }
    // Q4_0, Q5_K_M, Q6_K, IQ2_XXS, TQ1_0, Q4_0_4_8: a kind, one digit of bits, then parts joined by underscores.
    let Some(rest) = ["IQ", "TQ", "Q"].iter().find_map(|kind| word.strip_prefix(kind)) else { return false };
    let mut parts = rest.split('_');
    parts.next().is_some_and(|bits| bits.len() == 1 && bits.bytes().all(|b| (b'1'..=b'8').contains(&b)))
        && rest.contains('_')
        && parts
            .all(|p| matches!(p, "0" | "1" | "4" | "8" | "K" | "S" | "M" | "L" | "XS" | "XXS" | "XL" | "NL"))
}

/// `org/name` of a cache folder `models--org--name` (or `name` of the few repositories without an owner).
pub(crate) fn repo_of_cache_folder(folder: &str) -> Option<String> {
    let rest = folder.strip_prefix("models--")?;
    let repo = match rest.split_once("--") {
        Some((owner, name)) => format!("{owner}/{name}"),
        None => rest.to_string(),
    };
    repo.split('/').all(is_repo_part).then_some(repo)
}

/// `owner/name`, if both are names that the hub allows.
pub(crate) fn repo(owner: &str, name: &str) -> Option<String> {
    (is_repo_part(owner) && is_repo_part(name)).then(|| format!("{owner}/{name}"))
}

/// The hub's own rule for owners and repositories.
pub(crate) fn is_repo_part(part: &str) -> bool {
    (1..=96).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("..")
}

/// Whether a file or folder name may become part of a model id: printable, not hidden, no separators.
pub(crate) fn is_safe(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('.')
        && !name.chars().any(|c| {
            c.is_control() || matches!(c, '/' | '\\' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        })
}

/// The last component of a path, if it is a safe name.
pub(crate) fn safe_file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str().filter(|name| is_safe(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisation_labels_are_found_in_names_as_publishers_write_them() {
        for (name, label) in [
            ("Qwen3-0.6B-Q4_K_M.gguf", Some("Q4_K_M")),
            ("qwen2.5-0.5b-instruct-q8_0.gguf", Some("Q8_0")),
            ("Llama-3.2-1B-Instruct-UD-IQ1_S.gguf", Some("UD-IQ1_S")),
            ("Meta-Llama-3-8B.Q6_K.gguf", Some("Q6_K")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4")),
            ("stories260k-f32.gguf", Some("F32")),
            ("Qwen3-235B-Q4_0-00001-of-00003.gguf", Some("Q4_0")),
            ("mlx-community/Qwen3-0.6B-4bit", Some("4bit")),
            ("Qwen/Qwen3-0.6B-GGUF:Q5_K_S", Some("Q5_K_S")),
            ("Qwen3-0.6B", None),
            ("Q3-turbo", None),
            ("phi-4", None),
            ("Rabbit", None),
        ] {
            assert_eq!(quantization_label(name).as_deref(), label, "{name}");
        }
    }

    #[test]
    fn a_split_part_is_told_from_a_whole_file() {
        assert_eq!(split_name("m-00002-of-00005"), Some(SplitName { base: "m", part: 2, parts: 5 }));
        for whole in
            ["m", "m-00006-of-00005", "m-00000-of-00005", "m-2-of-5", "-00001-of-00001", "m-of-00005"]
        {
            assert_eq!(split_name(whole), None, "{whole}");
        }
    }

    #[test]
    fn only_names_that_the_hub_allows_become_repositories() {
        assert_eq!(repo_of_cache_folder("models--Qwen--Qwen3-0.6B").as_deref(), Some("Qwen/Qwen3-0.6B"));
        assert_eq!(repo_of_cache_folder("models--gpt2").as_deref(), Some("gpt2"));
        for bad in ["models--a--../b", "models--..--b", "models--a--", "datasets--a--b", "models--a--b\n"] {
            assert_eq!(repo_of_cache_folder(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_that_hide_or_deceive_are_not_safe() {
        for bad in ["", ".hidden", "a\nb", "a/b", "a\u{202e}fugg", "..", "a\u{0}"] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        assert!(is_safe("Mein Modell (2)"));
    }

    #[test]
    fn projectors_are_not_models() {
        assert!(is_projector("mmproj-model-f16"));
        assert!(is_projector("gemma-3-4b-mmproj-f16"));
        assert!(!is_projector("gemma-3-4b-Q4_0"));
    }
}
